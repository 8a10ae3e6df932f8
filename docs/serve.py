"""Write docs/pictures/serve.png, the page after three examples: ``make page-picture``. Needs Chromium."""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.web.serving import serve

OUT = Path(__file__).parent / "pictures" / "serve.png"
CLICKED = ("solid white background", "rocket on a black background", "red apple on a dark blue background")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

if __name__ == "__main__":
    with serve() as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(served.url)
        page.locator(".verdict").wait_for()
        for prompt in CLICKED:
            page.get_by_role("button", name=prompt, exact=True).click()
            expect(page.locator(".facts q")).to_have_text(prompt, timeout=60_000)
        page.get_by_label("Seed", exact=True).focus()  # so that the slider has no focus ring
        page.wait_for_timeout(500)
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        browser.close()
    shot.save(OUT, optimize=True)
    print(OUT)
