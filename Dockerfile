FROM node:24-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
# The scripts would only fetch another Node.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY rolldown.config.ts ./
COPY src ./src
RUN npm run build && chmod 755 dist/main.js

# The bundle holds its dependencies: no node_modules.
FROM node:24-slim
COPY --from=build /build/dist /opt/mlflow-sidecar/dist
COPY package.json LICENSE /opt/mlflow-sidecar/
# A new volume that is mounted on the cache takes its owner. The group is for users that a cluster chooses: they are of group 0.
RUN ln -s /opt/mlflow-sidecar/dist/main.js /usr/local/bin/mlflow-sidecar \
  && install -d -o 65532 -g 0 -m 775 /var/cache/mlflow-sidecar
ENV SIDECAR_CACHE_DIR=/var/cache/mlflow-sidecar
USER 65532:0
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SIDECAR_PORT || 5080}/healthz`).then(answer => process.exit(answer.ok ? 0 : 1))"]
ENTRYPOINT ["mlflow-sidecar"]
CMD ["serve"]
