"""The vocabulary of the embedded world: its colours, icons, places and light.

It is small on purpose. A model of a few million parameters, trained for two hours on a laptop, learns some hundreds of
shapes well, or many more badly. The words are common ones, with shapes that can be recognised at 64 pixels.

The shipped models were trained on captions made of these words: a change here needs all of them trained again.
"""

# Sixteen background colours (sRGB), with light and dark shades.
COLORS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "dark grey": (56, 56, 56),
    "light grey": (204, 204, 204),
    "red": (214, 40, 40),
    "orange": (245, 134, 28),
    "yellow": (250, 214, 40),
    "green": (52, 168, 72),
    "dark green": (16, 72, 32),
    "blue": (44, 104, 224),
    "dark blue": (14, 28, 92),
    "light blue": (160, 210, 248),
    "purple": (124, 58, 180),
    "pink": (248, 160, 196),
    "brown": (112, 66, 34),
}

# Words of a caption -> range of exposures in EV, relative to a panorama with a median luminance of 0.18 (middle grey).
LIGHT: dict[str, tuple[float, float]] = {
    "a very dark photo": (-5.0, -3.5),
    "a dark photo": (-2.75, -1.75),
    "a photo": (-0.5, 0.5),
    "a bright photo": (1.0, 1.75),
    "an overexposed photo": (2.5, 3.75),
}

# File in @pmndrs/assets/hdri -> words of a caption.
PLACES: dict[str, str] = {
    "apartment": "an apartment",
    "bridge": "a bridge",
    "city": "a city",
    "dawn": "a field at dawn",
    "esplanade": "an esplanade",
    "forest": "a forest",
    "hall": "a hall",
    "lab": "a laboratory",
    "lobby": "a lobby",
    "night": "a street at night",
    "park": "a park",
    "sky": "the sky",
    "studio": "a studio",
    "sunrise": "a sunrise",
    "sunset": "a sunset",
    "venice": "a canal in venice",
    "warehouse": "a warehouse",
    "workshop": "a workshop",
}

# Icons of fluent-emoji-flat, by their names in that set.
EMOJI: tuple[str, ...] = tuple(
    """
    balloon baseball basketball bullseye christmas-tree crystal-ball game-die jack-o-lantern joystick kite
    party-popper pool-8-ball puzzle-piece soccer-ball teddy-bear tennis trophy volleyball wrapped-gift yarn
    heart-suit ant bat bear bird bug butterfly cactus cat-face cherry-blossom chicken cow-face crab
    deciduous-tree dog-face dolphin dragon-face duck elephant evergreen-tree fallen-leaf fish flamingo
    four-leaf-clover fox frog giraffe hedgehog honeybee horse-face jellyfish koala lady-beetle lion maple-leaf
    monkey-face mouse-face octopus owl palm-tree panda parrot paw-prints penguin pig-face polar-bear
    potted-plant rabbit-face rat rose seedling shark snail snake spider spouting-whale sunflower swan t-rex
    tiger-face tropical-fish tulip turtle unicorn whale wolf avocado baby-bottle bacon bagel banana bell-pepper
    birthday-cake blueberries bread broccoli burrito candy carrot cheese-wedge cherries chocolate-bar coconut
    cookie croissant cucumber cupcake doughnut ear-of-corn egg eggplant french-fries garlic grapes green-apple
    hamburger hot-beverage hot-dog hot-pepper ice-cream kiwi-fruit lemon lobster lollipop mango melon mushroom
    onion peach pear pineapple pizza popcorn potato pretzel red-apple sandwich strawberry sushi taco teapot
    tomato waffle watermelon wine-glass axe backpack battery bell books briefcase broom bucket camera candle
    chair clipboard coin crown door dress drum envelope fire-extinguisher flashlight floppy-disk gear gem-stone
    glasses guitar hammer headphone hourglass-done key ladder laptop light-bulb locked magnet
    magnifying-glass-tilted-left megaphone microphone money-bag musical-note newspaper open-book package
    paintbrush paperclip pencil pill pushpin ring scissors screwdriver shield shopping-cart socks sunglasses
    syringe t-shirt telephone television test-tube toilet toothbrush top-hat umbrella violin wrench airplane
    alarm-clock ambulance anchor automobile bicycle bus castle church cloud cloud-with-rain compass
    crescent-moon droplet fire fire-engine flying-saucer full-moon globe-showing-americas helicopter
    high-voltage hospital house locomotive mountain police-car rainbow ringed-planet rocket sailboat school
    snowflake snowman star stop-sign sun taxi tent tornado tractor volcano water-wave alien angry-face
    blue-heart broken-heart clown-face crying-face ghost green-heart grinning-face pile-of-poo purple-heart
    red-heart robot skull smiling-face-with-heart-eyes smiling-face-with-sunglasses sleeping-face thinking-face
    winking-face yellow-heart
    """.split()
)

# Stroke icons on a 24-unit grid, from tabler (outline), or from lucide where tabler lacks the name.
LINE: tuple[str, ...] = tuple(
    """
    acorn alarm ambulance anchor apple archive armchair axe backpack balloon banana barrel basket bath battery
    bed bell bike bolt bone book bookmark bottle bow bowl box brain briefcase broom brush bucket bug bulb bus
    butterfly cactus cake calculator calendar camera campfire candle candy car carrot castle cat cheese cherry
    circle clipboard clock cloud clover coffee compass cone cookie crane croissant crown cube cup cylinder
    diamond dice dog door droplet drum ear egg eraser eye feather fence fish flag flame flask flower folder
    fountain fridge gamepad gauge ghost gift glass globe grill guitar hammer hand headphones heart helicopter
    hexagon home horse hospital hourglass key keyboard ladder ladle lamp laptop leaf lighthouse lock luggage
    lungs magnet mail map medal megaphone microphone microscope milk moon mountain mouse mug mushroom music
    needle notebook octagon palette paperclip parachute paw pencil pentagon phone piano pig pill pizza plane
    planet plant plug plus pyramid rabbit radio ribbon robot rocket ruler sailboat salad sandwich sausage scale
    school scissors shield ship shirt shoe shovel skull snowflake snowman sock sofa soup spade speaker spider
    spiral square star stethoscope sun sunglasses sword syringe target telescope tent thermometer ticket toilet
    tools tornado tower tractor train trash tree triangle trophy truck turtle umbrella van wallet watch wheel
    windmill wine world wrench x zeppelin
    """.split()
)

# Share of each kind among the pictures.
SHARES: dict[str, float] = {"solid": 0.12, "line": 0.36, "emoji": 0.38, "photo": 0.14}

# Share of the pictures whose caption leaves the background or the light open.
OPEN_SHARE = 0.2
