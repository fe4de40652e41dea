{{- /* What the sidecar's YAML file holds. */}}
{{- define "mlflow-sidecar.config" -}}
{{- $mlflow := .Values.mlflow }}
{{- $name := include "mlflow-sidecar.fullname" . }}
{{- $namespaced := printf "%s.%s" $name .Release.Namespace }}
{{- $config := dict
  "mlflow_tracking_uri" $mlflow.trackingUri
  "token_file" "/etc/mlflow-sidecar/token"
  "allow" .Values.allow
  "allowed_hosts" (concat (list $name $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.%s" $namespaced .Values.clusterDomain)) .Values.allowedHosts)
  "cache_max_bytes" (include "mlflow-sidecar.quota" .)
}}
{{- with .Values.models }}
{{- $_ := set $config "models" . }}
{{- end }}
{{- if not .Values.allow }}
{{- $uris := list }}
{{- range .Values.models }}
{{- $uri := . }}
{{- if kindIs "map" . }}{{ $uri = .uri }}{{ end }}
{{- $uris = append $uris (include "mlflow-sidecar.canonicalUri" $uri) }}
{{- end }}
{{- $_ := set $config "allow" (uniq $uris) }}
{{- end }}
{{- with $mlflow.registryUri }}
{{- $_ := set $config "mlflow_registry_uri" . }}
{{- end }}
{{- if $mlflow.credentials.existingSecret }}
{{- range $key := list "token" "username" "password" }}
{{- if get $mlflow.credentials (printf "%sKey" $key) }}
{{- $_ := set $config (printf "mlflow_tracking_%s_file" $key) (printf "/etc/mlflow-sidecar/mlflow-%s" $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- if or $mlflow.caBundle.configMap $mlflow.caBundle.secret }}
{{- $_ := set $config "mlflow_tracking_server_cert_path" "/etc/mlflow-sidecar/ca.crt" }}
{{- end }}
{{- if include "mlflow-sidecar.hasMetrics" . }}
{{- $_ := set $config "metrics_addr" (ternary "[::]:9090" "0.0.0.0:9090" (contains ":" .Values.host)) }}
{{- end }}
{{- /* On loopback it would be "full", and callers come from beyond all the same. */}}
{{- if include "mlflow-sidecar.onLoopback" . }}
{{- $_ := set $config "proxy" "read-only" }}
{{- end }}
{{- toYaml (mustMergeOverwrite $config (deepCopy .Values.config)) }}
{{- end }}

{{- /* Refuses, in words, what the schema cannot. */}}
{{- define "mlflow-sidecar.check" -}}
{{- $mlflow := .Values.mlflow }}
{{- $uri := required "mlflow.trackingUri must be set to MLflow's address as the pod sees it, such as http://mlflow:5000." $mlflow.trackingUri }}
{{- range $key, $value := dict "trackingUri" $mlflow.trackingUri "registryUri" $mlflow.registryUri }}
{{- if and $value (not (regexMatch "^https?://[^@\\s/]+(/\\S*)?$" $value)) }}
{{- fail (printf "mlflow.%s must be http://host[:port][/prefix] or https://…, without a user name: mlflow.credentials.existingSecret is for that." $key) }}
{{- end }}
{{- end }}
{{- if not (or .Values.models .Values.allow) }}
{{- fail "models and allow are both empty, so that nothing could be asked for. Set models to the model URIs that are needed, such as models:/topic-classification/Production; or set allow to patterns, such as models:/topic-* (or * for every model)." }}
{{- end }}
{{- with $mlflow.credentials }}
{{- if and .existingSecret (not .tokenKey) (not (and .usernameKey .passwordKey)) }}
{{- fail (printf "mlflow.credentials.existingSecret names %s: set tokenKey, or usernameKey and passwordKey, to its keys." .existingSecret) }}
{{- end }}
{{- if and (not .existingSecret) (or .tokenKey .usernameKey .passwordKey) }}
{{- fail "mlflow.credentials names keys and no Secret: set existingSecret." }}
{{- end }}
{{- end }}
{{- if and $mlflow.caBundle.configMap $mlflow.caBundle.secret }}
{{- fail "mlflow.caBundle names a ConfigMap and a Secret: set one of them." }}
{{- end }}
{{- with .Values.persistence }}
{{- if and .hostPath (ne $.Values.kind "DaemonSet") }}
{{- fail "persistence.hostPath is for kind: DaemonSet; a Deployment's pod moves from node to node." }}
{{- end }}
{{- if and .hostPath .existingClaim }}
{{- fail "persistence names a hostPath and an existingClaim: set one of them." }}
{{- end }}
{{- end }}
{{- if and (include "mlflow-sidecar.onLoopback" .) (eq (toString .Values.service.targetPort) "http") }}
{{- fail (printf "host is %s, which the Service does not reach: add a proxy to extraContainers, and set service.targetPort to its port." .Values.host) }}
{{- end }}
{{- end }}
