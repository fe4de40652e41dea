{{- define "mlflow-sidecar.pod" -}}
{{- include "mlflow-sidecar.check" . -}}
metadata:
  annotations:
    checksum/config: {{ include "mlflow-sidecar.config" . | sha256sum }}
    {{- if not .Values.token.existingSecret }}
    checksum/token: {{ include "mlflow-sidecar.generatedToken" . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "mlflow-sidecar.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  serviceAccountName: {{ include "mlflow-sidecar.serviceAccountName" . | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # It stops within 5 s, downloads or not.
  terminationGracePeriodSeconds: 10
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: mlflow-sidecar
      image: {{ include "mlflow-sidecar.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        - name: SIDECAR_CONFIG
          value: /etc/mlflow-sidecar/config.yaml
        - name: SIDECAR_HOST
          value: {{ .Values.host | quote }}
        - name: SIDECAR_PORT
          value: "5080"
        - name: SIDECAR_CACHE_DIR
          value: /var/cache/mlflow-sidecar
        # For `kubectl exec … mlflow-sidecar status`, too.
        - name: SIDECAR_TOKEN_FILE
          value: /etc/mlflow-sidecar/token
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- if not (include "mlflow-sidecar.onLoopback" .) }}
        - name: http
          containerPort: 5080
        {{- end }}
        {{- if include "mlflow-sidecar.hasMetrics" . }}
        - name: metrics
          containerPort: 9090
        {{- end }}
      # Whether it runs, never whether it has models or reaches MLflow: an MLflow that is down must not have it restarted.
      startupProbe:
        {{- include "mlflow-sidecar.probe" (list . "live" "/healthz") | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 10
        failureThreshold: 30
      livenessProbe:
        {{- include "mlflow-sidecar.probe" (list . "live" "/healthz") | nindent 8 }}
        periodSeconds: 30
        timeoutSeconds: 10
        failureThreshold: 3
      readinessProbe:
        {{- include "mlflow-sidecar.probe" (list . "ready" "/readyz") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 3
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: cache
          mountPath: /var/cache/mlflow-sidecar
        - name: settings
          mountPath: /etc/mlflow-sidecar
          readOnly: true
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: cache
      {{- include "mlflow-sidecar.cacheVolume" . | nindent 6 }}
    - name: settings
      projected:
        # 0440, for the pod's group
        defaultMode: 288
        sources:
          {{- include "mlflow-sidecar.settings" . | nindent 10 }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* The kubelet asks the pod's address; where nobody listens there, a command asks from inside. */}}
{{- define "mlflow-sidecar.probe" -}}
{{- if include "mlflow-sidecar.onLoopback" (index . 0) -}}
exec:
  command: [mlflow-sidecar, status, --{{ index . 1 }}]
{{- else -}}
httpGet:
  path: {{ index . 2 }}
  port: http
{{- end }}
{{- end }}

{{- define "mlflow-sidecar.cacheVolume" -}}
{{- $persistence := .Values.persistence }}
{{- if $persistence.hostPath -}}
hostPath:
  path: {{ $persistence.hostPath | quote }}
  # One that the kubelet made would be root's alone.
  type: Directory
{{- else if $persistence.existingClaim -}}
persistentVolumeClaim:
  claimName: {{ $persistence.existingClaim | quote }}
{{- else if and (eq .Values.kind "Deployment") $persistence.enabled -}}
persistentVolumeClaim:
  claimName: {{ include "mlflow-sidecar.fullname" . | quote }}
{{- else -}}
emptyDir:
  sizeLimit: {{ $persistence.size | quote }}
{{- end }}
{{- end }}

{{- /* The sources of the volume with everything that is read: the YAML file, the token, MLflow's credential, its authorities. */}}
{{- define "mlflow-sidecar.settings" -}}
{{- $mlflow := .Values.mlflow -}}
- configMap:
    name: {{ include "mlflow-sidecar.fullname" . | quote }}
    items:
      - key: config.yaml
        path: config.yaml
- secret:
    name: {{ include "mlflow-sidecar.tokenSecret" . | quote }}
    items:
      - key: {{ .Values.token.key | quote }}
        path: token
{{- with $mlflow.credentials }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret | quote }}
    items:
      {{- range $key := list "token" "username" "password" }}
      {{- with get $mlflow.credentials (printf "%sKey" $key) }}
      - key: {{ . | quote }}
        path: mlflow-{{ $key }}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- with $mlflow.caBundle }}
{{- if or .configMap .secret }}
- {{ ternary "configMap" "secret" (ne .configMap "") }}:
    name: {{ default .secret .configMap | quote }}
    items:
      - key: {{ .key | quote }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end }}
