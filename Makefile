# make demo and make test need Python >= 3.11 and only that: they make .venv and install into it, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

.PHONY: help demo test test-slow test-all lint format docs tiny results performance bench-step bench-quality bench-designs bench-train bench-evaluate bench-serve bench-gpu page-picture demos clean

help:
	@echo "make demo      the four prompts of the paper, without and with SingDiffusion -> out/demo/index.html"
	@echo "make test      all quick tests            make test-all  the slow ones too, and those on the lowest versions"
	@echo "make test-fidelity   metrics against torch-fidelity's and clean-fid's own code, which it installs aside"
	@echo "make fuzz      wrong inputs for MINUTES=20, counted by what came of them"
	@echo "make test-oldest, test-newest, test-forge, test-invokeai   the quick tests on other versions of what we depend on"
	@echo "make dist      wheel and sdist into dist/, checked; the same bytes every time"
	@echo "make lint      ruff and pyright           make format    let ruff rewrite"
	@echo "make docs      the documentation as a site -> build/site/index.html"
	@echo "make tiny      train the embedded models again (hours on a CPU)"
	@echo "make demos     measure the embedded models by the demo, and the theory, write docs/ again (minutes)"
	@echo "make results   docs/results.md: the whole evaluation of the embedded models (an hour)"
	@echo "make bench-step, bench-train, bench-evaluate, bench-serve   what the first step, training, painting at scale and the page cost"
	@echo "make bench-gpu   the same on an NVIDIA GPU of 80 GB or more, at full size (ten minutes)"
	@echo "make performance   all of docs/performance.md, with the pictures' brightness and other decoders (an hour)"

$(DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11, which the versions in constraints.txt need; name a newer one, such as make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.recipes: $(DONE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,recipes]"
	@touch $@

demo: $(DONE)
	HF_HUB_OFFLINE=1 $(BIN)/singdiffusion demo --out out/demo

test: $(DONE)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

test-slow: $(DONE)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m slow

test-all: test test-slow test-oldest

# Wrong inputs for everything that takes input from outside; the quick tests try a few.
MINUTES ?= 20
.PHONY: fuzz
fuzz: $(DONE)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzzing --minutes $(MINUTES)

# Environments of their own, in .venv-NAME, with the versions in environments/NAME.txt. oldest: the lowest that pyproject.toml takes, torch
# apart. forge, invokeai: those of two programs that artists use (docs/compatibility.md). newest: what is out today, torch apart; no file
# pins it, so that a new version of another package shows up before a release, and not in between.
PARTS := test,evaluate,theory,train
NEWEST := .venv-newest

.PHONY: test-oldest test-forge test-invokeai test-newest dist
.venv-%/.installed: environments/%.txt pyproject.toml
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -c environments/$*.txt -e ".[$(PARTS)$(if $(filter invokeai,$*),$(comma)web)]"
	@touch $@

comma := ,

test-oldest test-forge test-invokeai: test-%: .venv-%/.installed
	.venv-$*/bin/python -m pytest -n auto --dist loadgroup -m "not slow" -rs

test-newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	grep '^torch==' constraints.txt > $(NEWEST)/torch.txt
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(NEWEST)/torch.txt --upgrade --upgrade-strategy eager -e ".[$(PARTS),web]"
	$(NEWEST)/bin/python -m pytest -n auto --dist loadgroup -m "not slow" -rs

dist: $(DONE)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python -m twine check --strict dist/*

# torch-fidelity's and clean-fid's own code, in a folder of their own: a torchvision without its operators must not be found by transformers.
FIDELITY := build/fidelity

.PHONY: test-fidelity
test-fidelity: $(DONE)
	test -d $(FIDELITY)/torch_fidelity || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --target $(FIDELITY) torch-fidelity==0.4.0 clean-fid==0.1.35 torchvision==0.28.0
	$(BIN)/python -m pytest tests/evaluate/test_with_torch_fidelity.py

lint: $(DONE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DONE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DONE)
	$(BIN)/python docs/commands.py
	$(BIN)/python -m zensical build --strict

tiny: $(VENV)/.recipes
	$(BIN)/python -m recipes.tiny all

results: $(DONE)
	HF_HUB_OFFLINE=1 $(BIN)/python docs/results.py

demos: $(DONE)
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/embedded.py
	$(BIN)/python -m recipes.tiny cards
	$(BIN)/singdiffusion theory --out docs/theory

bench-train: $(DONE)
	$(BIN)/python benchmarks/train.py --json build/bench-train.json

bench-evaluate: $(DONE)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/evaluate.py --json build/bench-evaluate.json

bench-serve: $(DONE)
	HF_HUB_OFFLINE=1 PYTHONPATH=. $(BIN)/python benchmarks/serve.py --json build/bench-serve.json

page-picture: $(DONE)
	HF_HUB_OFFLINE=1 PYTHONPATH=. $(BIN)/python docs/serve.py

bench-gpu: $(DONE)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.gpu --json build/gpu.json

bench-step: $(DONE)
	$(BIN)/python benchmarks/step.py --json build/bench-step.json

bench-quality: $(DONE)
	$(BIN)/python benchmarks/quality.py --json build/quality.json

bench-designs: $(DONE)
	$(BIN)/python benchmarks/designs.py --json build/designs.json

performance: bench-step bench-designs bench-quality
	$(BIN)/python docs/performance.py

clean:
	rm -rf out dist .pytest_cache .ruff_cache .hypothesis
