# The pipeline for a machine with an NVIDIA GPU: torch's wheel brings CUDA, so the machine needs the driver and the NVIDIA Container
# Toolkit only. Without a GPU it runs on the CPU. README, "In a container", has the commands.
FROM python:3.12-slim AS build

# pydensecrf2 is built from source
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/weakclip
ENV PATH=/opt/weakclip/bin:$PATH
WORKDIR /project
COPY pyproject.toml README.md LICENSE ./
COPY stages stages
COPY weakclip weakclip
# Editable: a checkout that is mounted at /project is what runs, its program `weakclip` too.
RUN pip install --no-cache-dir --editable '.[onnx]'


FROM python:3.12-slim

# DVC works with Git
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*'
COPY --from=build /opt/weakclip /opt/weakclip
COPY --from=build /project /project
WORKDIR /project
COPY dvc.yaml params.yaml .dvcignore ./
COPY .dvc/config .dvc/config
COPY data/raw data/raw

# Waiting threads sleep, as in the Makefile. The home holds downloaded weights and is any user's (`docker run --user`).
ENV PATH=/opt/weakclip/bin:$PATH OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 HOME=/home/weakclip USER=weakclip
RUN useradd --uid 1000 --create-home weakclip \
    && dvc config --local core.no_scm true \
    && chown -R weakclip /project \
    && chmod 1777 /home/weakclip
USER weakclip
CMD ["dvc", "repro"]
