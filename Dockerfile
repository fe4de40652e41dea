# To pin the base image, give its digest too: --build-arg NODE_IMAGE=node:24-slim@sha256:…
# (`docker buildx imagetools inspect node:24-slim` says what it is).
ARG NODE_IMAGE=node:24-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json ./
# The scripts would only fetch another Node.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY LICENSE rolldown.config.ts ./
COPY scripts/build ./scripts/build
COPY src ./src
# The bundle holds its dependencies: no node_modules go along. Whoever the image runs as can read it, however strict the umask of the clone.
RUN npm run build \
  && install -d /image \
  && cp -r package.json LICENSE dist /image \
  && find /image -name '*.map' -delete \
  && chmod -R u=rwX,go=rX /image \
  && chmod 755 /image/dist/main.js

FROM ${NODE_IMAGE}
COPY --from=build /image /opt/mlflow-sidecar
# A new volume that is mounted on the cache takes its owner. The group is for users that a cluster chooses: they are of group 0.
# Nothing here installs packages: what does is only something more to keep up to date.
RUN ln -s /opt/mlflow-sidecar/dist/main.js /usr/local/bin/mlflow-sidecar \
  && install -d -o 65532 -g 0 -m 775 /var/cache/mlflow-sidecar \
  && rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg /opt/yarn-*
# Node's compile cache would be of one user id and one kind of processor, and saves less than 0.1 s of a start.
ENV NODE_ENV=production \
  NODE_DISABLE_COMPILE_CACHE=1 \
  SIDECAR_CACHE_DIR=/var/cache/mlflow-sidecar
USER 65532:0
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["mlflow-sidecar", "status", "--live"]
ENTRYPOINT ["mlflow-sidecar"]
CMD ["serve"]

# Last, since these change with every build.
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="mlflow-sidecar" \
  org.opencontainers.image.description="A local sidecar that loads MLflow models for Airflow within a deadline: never blocks, never gives wrong bytes, always says why." \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}"
