# syntax=docker/dockerfile:1
# finemask serve, and nothing else: no compiler, no pip, no root, nothing that only training needs. From the checkout:
#   docker build -f docs/deploy/serve.Dockerfile -t finemask-serve .                                  with CUDA
#   docker build -f docs/deploy/serve.Dockerfile --build-arg TORCH_INDEX=ADDRESS -t finemask-serve .  for the CPU
# ADDRESS is the index of packages that pytorch.org shows for Linux, pip, CPU. RUNTIME is what runs exported files:
# onnxruntime, onnxruntime-gpu, openvino, or nothing, "", where only model files are served.
FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
ARG RUNTIME="onnxruntime"
ENV PIP_PYTHON=/opt/venv
# torch first: it is nearly all of the image, and changes least. Bounds of versions are in pyproject.toml.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/venv \
    && pip install --no-cache-dir --no-compile ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml /src/
# Without what training and its logs need: the server imports none of it.
RUN python -c 'import tomllib; project = tomllib.load(open("/src/pyproject.toml", "rb"))["project"]; \
    needs = project["dependencies"] + project["optional-dependencies"]["serve"]; \
    training = ("pytorch-lightning", "albumentations", "tensorboard"); \
    print(*(need for need in needs if not need.startswith(training)), sep="\n")' > /src/needs.txt \
    && pip install --no-cache-dir --no-compile -r /src/needs.txt ${RUNTIME:+"$RUNTIME"}
COPY README.md LICENSE /src/
COPY configs /src/configs
COPY src /src/src
WORKDIR /opt/venv/lib/python3.12/site-packages
# triton is for torch.compile, which the server does not use; it comes with CUDA, and has 0.9 GB.
RUN pip install --no-cache-dir --no-compile --no-deps /src \
    && rm -rf torch/include torch/test torch/share triton \
    && find scipy -type d -name tests -prune -exec rm -rf {} +

FROM python:3.12-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["finemask", "serve", "host=0.0.0.0", "port=8000"]
CMD ["model=model.safetensors"]
