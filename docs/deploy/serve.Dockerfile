# syntax=docker/dockerfile:1
# finemask serve, and nothing else: no compiler, no pip cache, no root. From the checkout:
#   docker build -f docs/deploy/serve.Dockerfile -t finemask-serve .                                  with CUDA
#   docker build -f docs/deploy/serve.Dockerfile --build-arg TORCH_INDEX=ADDRESS -t finemask-serve .  for the CPU
# ADDRESS is the index of packages that pytorch.org shows for Linux, pip, CPU.
FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# torch first: it is nearly all of the image, and changes least. Bounds of versions are in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-compile ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml README.md LICENSE /src/
COPY configs /src/configs
COPY src /src/src
RUN pip install --no-cache-dir --no-compile "/src[serve,onnx]" \
    && find /opt/venv -type d -name __pycache__ -prune -exec rm -rf {} + \
    && rm -rf /opt/venv/lib/python3.12/site-packages/torch/include /opt/venv/lib/python3.12/site-packages/torch/test

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
