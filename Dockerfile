# JupyterLab with this project, on the CPU:
#   docker build -t persist . && docker run --rm -p 8888:8888 -v persist-runs:/home/reader/persist/runs persist
# Not tried.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home reader
USER reader
WORKDIR /home/reader/persist
# the dependencies in a layer of their own, made anew only when they change
COPY --chown=reader pyproject.toml constraints.txt README.md LICENSE Makefile ./
COPY --chown=reader persist/__init__.py persist/__init__.py
RUN mkdir -p persist/evidence persist/notebook && make .venv/ready
COPY --chown=reader . .
RUN touch .venv/ready && mkdir -p runs
VOLUME /home/reader/persist/runs
EXPOSE 8888
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks"]
