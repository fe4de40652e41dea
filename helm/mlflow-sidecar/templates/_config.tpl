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
{{- $uris := include "mlflow-sidecar.modelUris" . | fromJsonArray }}
{{- $_ := set $config "allow" (default (list (include "mlflow-sidecar.allowNothing" .)) (uniq $uris)) }}
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
{{- $all := mustMergeOverwrite $config (deepCopy .Values.config) }}
{{- $_ := set $all "prewarm" (include "mlflow-sidecar.prewarm" .) }}
{{- if not $all.prewarm }}{{ $_ := unset $all "prewarm" }}{{ end }}
{{- toYaml $all }}
{{- end }}

{{- /* The schedule of the models that have none of their own; empty for none. A model that nobody loads would be reported as missing. */}}
{{- define "mlflow-sidecar.prewarm" -}}
{{- if hasKey .Values.config "prewarm" }}
{{- .Values.config.prewarm }}
{{- else if .Values.models }}
{{- "*/5 * * * *" }}
{{- end }}
{{- end }}

{{- /* The sidecar wants a list of what may be asked for. This is the form of no model URI, so that nothing fits. */}}
{{- define "mlflow-sidecar.allowNothing" -}}
models:/nothing/is/configured
{{- end }}

{{- /* 80 % of the cache's size: an emptyDir reports the whole disk of its node. */}}
{{- define "mlflow-sidecar.quota" -}}
{{- divf (mulf (include "mlflow-sidecar.bytes" .Values.persistence.size | float64) 8) 10 | floor | printf "%.0f" }}
{{- end }}

{{- /* How many bytes 20Gi, 1.5GiB or 20G are. */}}
{{- define "mlflow-sidecar.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := trimSuffix "B" . | regexFind "[A-Za-z]*$" }}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units $unit) | floor | printf "%.0f" }}
{{- end }}
