{{- /* The canonical URIs of the models, as a JSON list. */}}
{{- define "mlflow-sidecar.modelUris" -}}
{{- $uris := list }}
{{- range .Values.models }}
{{- $uri := . }}
{{- if kindIs "map" . }}{{ $uri = .uri }}{{ end }}
{{- $uris = append $uris (include "mlflow-sidecar.canonicalUri" $uri) }}
{{- end }}
{{- toJson $uris }}
{{- end }}

{{- /* The one text of equal URIs, as the sidecar has it: patterns of what is allowed are compared with it letter by letter. */}}
{{- define "mlflow-sidecar.canonicalUri" -}}
{{- $uri := trim . }}
{{- include "mlflow-sidecar.checkUri" $uri }}
{{- $ref := regexFind "/[^/]*$" $uri }}
{{- $before := trimSuffix $ref $uri }}
{{- if hasPrefix "runs:/" $uri }}
{{- printf "runs:/%s" (regexReplaceAll "/+" (trimPrefix "runs:/" $uri) "/" | trimSuffix "/") }}
{{- else if regexMatch "(?i)^/(none|staging|production|archived)$" $ref }}
{{- printf "%s/%s" $before ($ref | trimPrefix "/" | lower | title) }}
{{- else if eq (lower $ref) "/latest" }}
{{- printf "%s/latest" $before }}
{{- else if regexMatch "^models:/.*/[0-9]+$" $uri }}
{{- printf "%s/%s" $before (regexReplaceAll "^/0*" $ref "") }}
{{- else }}
{{- $uri }}
{{- end }}
{{- end }}

{{- /* Refuses what the sidecar does not take for a model URI. */}}
{{- define "mlflow-sidecar.checkUri" -}}
{{- $isRun := and (regexMatch "^runs:/[A-Za-z0-9_-]{1,250}(/+[^/]+)+/*$" .) (not (regexMatch "/[.]{1,2}(/|$)" .)) }}
{{- $isRef := regexMatch "^models:/[^/:]*[^/:\\s][^/:]*(/[^/]*[^/\\s][^/]*|@[^/@]*[^/@\\s][^/@]*)$" . }}
{{- $isModel := or $isRef (regexMatch "^models:/m-[A-Za-z0-9_-]{1,250}$" .) }}
{{- if or (not (or $isRun $isModel)) (regexMatch "^models:/[.]{1,2}[/@]" .) (regexMatch "[[:cntrl:]]" .) }}
{{- fail (printf "models names %q, which is no model URI: write models:/name/Production, models:/name@alias, models:/name/3, models:/name/latest, models:/m-<id> or runs:/<run_id>/<path>." .) }}
{{- end }}
{{- $version := regexFind "^models:/[^/]+/0*[0-9]+$" . | regexFind "/[0-9]+$" | trimPrefix "/" }}
{{- if and $version (or (not (regexMatch "^0*[1-9][0-9]{0,9}$" $version)) (gt (int64 (regexReplaceAll "^0+" $version "")) 2147483647)) }}
{{- fail (printf "models names %q, whose version is outside 1 to 2147483647." .) }}
{{- end }}
{{- end }}
