# JupyterLab with this project, on the CPU:  docker build -t persist .  &&  docker run --rm -p 8888:8888 persist
# Not tried.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home reader
USER reader
WORKDIR /home/reader/persist
COPY --chown=reader . .
RUN make .venv/ready
EXPOSE 8888
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks"]
