{{/* Names and labels. A "part" is one of coordinator, generator, trainer, analyzer, test, and those of _ray.tpl. */}}

{{- define "ouroscope.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "ouroscope.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "ouroscope.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "ouroscope.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "ouroscope.selector" -}}
app.kubernetes.io/name: {{ include "ouroscope.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ouroscope.labels" -}}
{{ include "ouroscope.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ouroscope
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ouroscope.image" -}}
{{- $image := index .root.Values.image .name -}}
{{- $path := $image.repository -}}
{{- with .root.Values.image.registry }}{{ $path = printf "%s/%s" . $path }}{{ end -}}
{{- if $image.digest }}{{ $path }}@{{ $image.digest }}{{ else }}{{ $path }}:{{ default .root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{/* What services listen on; a test holds it to their settings. */}}
{{- define "ouroscope.ports" -}}
coordinator: {grpc: 50054, metrics: 9464, page: 9463}
generator: {grpc: 50051, metrics: 9465}
trainer: {grpc: 50052, metrics: 9466}
analyzer: {grpc: 50053, metrics: 9467}
{{- end }}

{{- define "ouroscope.storeUrl" -}}
{{- if eq .Values.store.kind "s3" }}{{ .Values.store.s3.url }}{{ else }}/data/store{{ end -}}
{{- end }}

{{- define "ouroscope.storeClaim" -}}
{{- default (printf "%s-store" (include "ouroscope.fullname" .)) .Values.store.volume.existingClaim -}}
{{- end }}

{{/* The Secret that holds the certificate of a part. */}}
{{- define "ouroscope.tlsSecret" -}}
{{- if .root.Values.tls.certManager.enabled -}}
{{ include "ouroscope.fullname" .root }}-{{ .part }}-tls
{{- else -}}
{{ include "ouroscope.secret" (dict "root" .root "of" "tls") }}
{{- end }}
{{- end }}
