{{/* What the pods have in common. Each takes a dict: root, part, and its values (own) where they are not under its name. */}}

{{- define "ouroscope.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ouroscope.containerSecurity" -}}
runAsNonRoot: true
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* A value as text: Helm reads numbers as floats, and would write large ones with an exponent. */}}
{{- define "ouroscope.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Head of the spec of a pod. */}}
{{- define "ouroscope.podHead" -}}
{{- $own := default (index .root.Values .part) .own -}}
automountServiceAccountToken: false
{{- if not .withoutAccount }}
serviceAccountName: {{ default (include "ouroscope.fullname" .root) .account }}
{{- end }}
# Variables that Kubernetes would add for Services may begin with ours, and a service refuses those it does not know.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
securityContext: {{- include "ouroscope.podSecurity" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ouroscope.podMetadata" -}}
{{- $own := default (index .root.Values .part) .own -}}
labels:
  {{- include "ouroscope.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .part }}
  {{- with $own.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
annotations:
  {{- if and (eq .part "generator") .root.Values.generator.backends }}
  checksum/backends: {{ toYaml .root.Values.generator.backends | sha256sum }}
  {{- end }}
  {{- if and (eq .part "trainer") .root.Values.trainer.jobs.enabled }}
  checksum/jobs: {{ include "ouroscope.trainingJob" (dict "root" .root) | sha256sum }}
  {{- end }}
  kubectl.kubernetes.io/default-container: {{ .part }}
  {{- with $own.podAnnotations }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{/* A client of the services: how it trusts them and shows who it is. */}}
{{- define "ouroscope.clientEnv" -}}
{{- if .root.Values.tls.enabled }}
- {name: OURO_CLIENT_CA, value: /etc/ouroscope/tls/ca.crt}
{{- if .root.Values.tls.mutual }}
- {name: OURO_CLIENT_CERTIFICATE, value: /etc/ouroscope/tls/tls.crt}
- {name: OURO_CLIENT_KEY, value: /etc/ouroscope/tls/tls.key}
{{- end }}
{{- end }}
{{- if and .token (include "ouroscope.secret" (dict "root" .root "of" "clientToken")) }}
- {name: OURO_CLIENT_TOKEN_FILE, value: /etc/ouroscope/token/{{ .root.Values.security.clientToken.key }}}
{{- end }}
{{- end }}

{{- define "ouroscope.securityEnv" -}}
{{- with .Values }}
{{- if .tls.enabled }}
- {name: OURO_SECURITY_CERTIFICATE, value: /etc/ouroscope/tls/tls.crt}
- {name: OURO_SECURITY_KEY, value: /etc/ouroscope/tls/tls.key}
{{- if .tls.mutual }}
- {name: OURO_SECURITY_CLIENT_CA, value: /etc/ouroscope/tls/ca.crt}
{{- end }}
{{- end }}
{{- if include "ouroscope.secret" (dict "root" $ "of" "tokens") }}
- {name: OURO_SECURITY_TOKENS, value: /etc/ouroscope/tokens/{{ .security.tokens.key }}}
{{- end }}
{{- range $name, $value := .security.settings }}
- {name: OURO_SECURITY_{{ $name }}, value: {{ include "ouroscope.text" $value | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "ouroscope.storeEnv" -}}
{{- with .Values.store }}
{{- if eq .kind "s3" }}
{{- with .s3.endpoint }}
- {name: AWS_ENDPOINT_URL_S3, value: {{ . | quote }}}
{{- end }}
{{- with .s3.region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- with include "ouroscope.secret" (dict "root" $ "of" "s3") }}
{{- $secret := . }}
{{- range tuple "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables of a part beside its own. */}}
{{- define "ouroscope.commonEnv" -}}
{{- $own := index .root.Values .part -}}
{{- $prefix := printf "OURO_%s" (upper .part) -}}
{{- if .root.Values.allowPlaintext }}
- {name: {{ $prefix }}_ALLOW_PLAINTEXT, value: "true"}
{{- end }}
- {name: {{ $prefix }}_STORE, value: {{ include "ouroscope.storeUrl" .root | quote }}}
{{- range $name, $value := ternary .settings $own.settings (hasKey . "settings") }}
- {name: {{ $prefix }}_{{ $name }}, value: {{ include "ouroscope.text" $value | quote }}}
{{- end }}
{{- include "ouroscope.securityEnv" .root }}
{{- include "ouroscope.clientEnv" (dict "root" .root "token" (eq .part "coordinator")) }}
{{- include "ouroscope.storeEnv" .root }}
{{- with $own.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ouroscope.mounts" -}}
{{- with .root.Values }}
- {name: tmp, mountPath: /tmp}
{{- if eq .store.kind "volume" }}
- {name: store, mountPath: /data/store}
{{- end }}
{{- if .tls.enabled }}
- {name: tls, mountPath: /etc/ouroscope/tls, readOnly: true}
{{- end }}
{{- if include "ouroscope.secret" (dict "root" $.root "of" "tokens") }}
- {name: tokens, mountPath: /etc/ouroscope/tokens, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{/* 288 is 0440, which readers of YAML do not agree on. */}}
{{- define "ouroscope.volumes" -}}
{{- $own := index .root.Values .part -}}
- {name: tmp, emptyDir: {sizeLimit: {{ $own.scratch }}}}
{{- if eq .root.Values.store.kind "volume" }}
- name: store
  persistentVolumeClaim: {claimName: {{ include "ouroscope.storeClaim" .root }}}
{{- end }}
{{- if .root.Values.tls.enabled }}
- {name: tls, secret: {secretName: {{ include "ouroscope.tlsSecret" . }}, defaultMode: 288}}
{{- end }}
{{- with include "ouroscope.secret" (dict "root" .root "of" "tokens") }}
- {name: tokens, secret: {secretName: {{ . }}, defaultMode: 288}}
{{- end }}
{{- end }}

{{/* The gRPC probes of Kubernetes speak no TLS; the program does, as OURO_CLIENT_* says. */}}
{{- define "ouroscope.probe" -}}
{{- $port := index (include "ouroscope.ports" .root | fromYaml) .part "grpc" -}}
{{- if .root.Values.tls.enabled -}}
exec:
  # The certificate names the Service, not this address.
  command: [env, OURO_CLIENT_SERVER_NAME={{ include "ouroscope.fullname" .root }}-{{ .part }}, python, -m, ouroscope.rpc.probe, "127.0.0.1:{{ $port }}"]
{{- else -}}
grpc: {port: {{ $port }}}
{{- end }}
timeoutSeconds: 10
{{- end }}

{{- define "ouroscope.probes" -}}
startupProbe:
  {{- include "ouroscope.probe" . | nindent 2 }}
  periodSeconds: 10
  # Importing torch takes a while, opening many models a while longer.
  failureThreshold: 60
readinessProbe:
  {{- include "ouroscope.probe" . | nindent 2 }}
  periodSeconds: 15
  failureThreshold: 2
livenessProbe:
  {{- include "ouroscope.probe" . | nindent 2 }}
  periodSeconds: 30
  # Health is answered while work is done; a machine that is very busy may be late.
  failureThreshold: 6
# Whoever balances calls learns first that this pod goes away.
lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
{{- end }}

{{- define "ouroscope.containerPorts" -}}
{{- range $name, $port := index (include "ouroscope.ports" .root | fromYaml) .part }}
{{- if or (ne $name "page") $.root.Values.coordinator.page }}
- {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
{{- end }}
{{- end }}
{{- end }}

{{/* A token of Kubernetes, for the one container that mounts it; it is renewed while the pod runs. Takes a name. */}}
{{- define "ouroscope.tokenVolume" -}}
- name: {{ .name }}
  projected:
    defaultMode: 288
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
{{- end }}
