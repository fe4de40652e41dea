{{- /* Refuses, in words, what the schema cannot. */}}
{{- define "mlflow-sidecar.check" -}}
{{- $mlflow := .Values.mlflow }}
{{- $uri := required "mlflow.trackingUri must be set to MLflow's address as the pod sees it, such as http://mlflow:5000." $mlflow.trackingUri }}
{{- range $key, $value := dict "trackingUri" $mlflow.trackingUri "registryUri" $mlflow.registryUri }}
{{- if and $value (not (regexMatch "^https?://([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[^\\s?#]*)?$" $value)) }}
{{- fail (printf "mlflow.%s must be http://host[:port][/prefix] or https://…, without a user name: mlflow.credentials.existingSecret is for that." $key) }}
{{- end }}
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
{{- include "mlflow-sidecar.checkNames" . }}
{{- include "mlflow-sidecar.checkModels" . }}
{{- include "mlflow-sidecar.checkSchedules" . }}
{{- include "mlflow-sidecar.checkDeadlines" . }}
{{- include "mlflow-sidecar.checkQuota" . }}
{{- end }}

{{- define "mlflow-sidecar.checkNames" -}}
{{- $name := include "mlflow-sidecar.fullname" . }}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) }}
{{- fail (printf "%s is no name for a Service, which begins with a letter and holds a-z, 0-9 and - alone: set fullnameOverride." $name) }}
{{- end }}
{{- $labels := include "mlflow-sidecar.labels" . | fromYaml }}
{{- range $label := keys .Values.podLabels | sortAlpha }}
{{- if hasKey $labels $label }}
{{- fail (printf "podLabels sets %s, which is the chart's own: the Service finds the pods by such labels." $label) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.checkModels" -}}
{{- range $uri := include "mlflow-sidecar.modelUris" . | fromJsonArray }}
{{- if not $.Values.allow }}
{{- if contains "*" $uri }}
{{- fail (printf "models names %q, whose * would let more be asked for: set allow to what may be." $uri) }}
{{- end }}
{{- else }}
{{- $allowed := false }}
{{- range $pattern := $.Values.allow }}
{{- if regexMatch (printf "^%s$" (regexQuoteMeta (trim $pattern) | replace "\\*" ".*")) $uri }}{{ $allowed = true }}{{ end }}
{{- end }}
{{- if not $allowed }}
{{- fail (printf "models names %s, which no pattern of allow fits: add it there." $uri) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.checkSchedules" -}}
{{- $config := .Values.config }}
{{- if $config.prewarm }}
{{- include "mlflow-sidecar.checkSchedule" (list "config.prewarm" $config.prewarm) }}
{{- end }}
{{- range $model := .Values.models }}
{{- if and (kindIs "map" $model) (hasKey $model "prewarm") }}
{{- include "mlflow-sidecar.checkSchedule" (list (printf "prewarm of %s in models" $model.uri) $model.prewarm) }}
{{- end }}
{{- end }}
{{- if not .Values.models }}
{{- range $key := list "prewarm" "warmup_s" }}
{{- if get $config $key }}
{{- fail (printf "config.%s is for the models that are named in models, and it names none." $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Takes a list: what is set, and to what. */}}
{{- define "mlflow-sidecar.checkSchedule" -}}
{{- $schedule := index . 1 | trim }}
{{- $months := "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sep(tember)?|oct(ober)?|nov(ember)?|dec(ember)?" }}
{{- $days := "sun(day)?|mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?" }}
{{- $fields := list }}
{{- range $values := list "[0-5]?[0-9]" "[0-5]?[0-9]" "1?[0-9]|2[0-3]" "0?[1-9]|[12][0-9]|3[01]" (printf "0?[1-9]|1[0-2]|%s" $months) (printf "[0-7]|%s" $days) }}
{{- $item := printf "([*]|(%[1]s)(-(%[1]s))?)(/[1-9][0-9]?)?" $values }}
{{- $fields = append $fields (printf "%[1]s(,%[1]s)*" $item) }}
{{- end }}
{{- $five := printf "(?i)^(%s +)?%s$" (first $fields) (join " +" (rest $fields)) }}
{{- if not (or (regexMatch $five $schedule) (regexMatch "(?i)^@(hourly|daily|midnight|weekly|monthly|yearly|annually)$" $schedule)) }}
{{- fail (printf "%s is %q, which is no schedule: write five cron fields (*/5 * * * *), six with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly." (index . 0) (index . 1)) }}
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.checkDeadlines" -}}
{{- $deadline := .Values.config.reload_deadline_s | default 60 | float64 }}
{{- $longest := .Values.config.reload_deadline_max_s | default 600 | float64 }}
{{- if gt $deadline $longest }}
{{- fail (printf "config.reload_deadline_s (%v, by default 60) is above config.reload_deadline_max_s (%v, by default 600)." $deadline $longest) }}
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.checkQuota" -}}
{{- $size := .Values.persistence.size }}
{{- if not (regexMatch "^[1-9][0-9]{0,15}([kMGT]|[KMGT]i)?$" $size) }}
{{- fail (printf "persistence.size is %q: write a whole number and k, M, G, T, Ki, Mi, Gi or Ti, such as 1536Mi for 1.5Gi." $size) }}
{{- end }}
{{- $quota := include "mlflow-sidecar.quota" . }}
{{- with .Values.config.cache_max_bytes }}
{{- $quota = kindIs "string" . | ternary (include "mlflow-sidecar.bytes" (toString .)) (int64 . | toString) }}
{{- end }}
{{- if or (lt (float64 $quota) 1048576.0) (gt (float64 $quota) 9007199254740991.0) }}
{{- fail (printf "The cache may fill %s bytes, by persistence.size (80 %% of it) or config.cache_max_bytes: it must be 1Mi at least, and 8191Ti at most." $quota) }}
{{- end }}
{{- end }}
