{{- define "mlflow-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "mlflow-sidecar.fullname" -}}
{{- $name := include "mlflow-sidecar.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mlflow-sidecar.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mlflow-sidecar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "mlflow-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{- /* Of the pod that `helm test` starts: the Service must not take it for the sidecar. */}}
{{- define "mlflow-sidecar.testLabels" -}}
app.kubernetes.io/name: {{ include "mlflow-sidecar.name" . | trunc 58 | printf "%s-test" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mlflow-sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mlflow-sidecar.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* What stands before a sidecar on loopback is there for TLS. */}}
{{- define "mlflow-sidecar.url" -}}
{{ ternary "https" "http" (ne (include "mlflow-sidecar.onLoopback" .) "") }}://{{ include "mlflow-sidecar.fullname" . }}.{{ .Release.Namespace }}:{{ .Values.service.port }}
{{- end }}

{{- /* Not empty where the sidecar is reached from its own pod alone. */}}
{{- define "mlflow-sidecar.onLoopback" -}}
{{- if or (hasPrefix "127." .Values.host) (eq .Values.host "::1") (eq .Values.host "localhost") }}true{{ end }}
{{- end }}

{{- /* Not empty where metrics have an address of their own. */}}
{{- define "mlflow-sidecar.hasMetrics" -}}
{{- if or .Values.monitoring.enabled .Values.monitoring.podMonitor.enabled }}true{{ end }}
{{- end }}

{{- define "mlflow-sidecar.tokenSecret" -}}
{{- default (include "mlflow-sidecar.fullname" .) .Values.token.existingSecret }}
{{- end }}

{{- /* The generated token: the one that is there, else a new one. It is kept in the values, since the Secret and the pod's checksum must see the same one. */}}
{{- define "mlflow-sidecar.generatedToken" -}}
{{- if not (hasKey .Values.token "generated") }}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "mlflow-sidecar.fullname" .) | default dict }}
{{- $kept := get (get $secret "data" | default dict) .Values.token.key | b64dec }}
{{- $_ := set .Values.token "generated" (default (randAlphaNum 48) $kept) }}
{{- end }}
{{- .Values.token.generated }}
{{- end }}
