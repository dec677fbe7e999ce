{{/* What the schema cannot say, or cannot give the reason for. */}}
{{- define "ouroscope.checks" -}}
{{- with .Values }}
{{- if gt (int .coordinator.replicas) 1 }}
{{- fail (printf "coordinator.replicas is %d, and must be 1 (or 0 to stop it for a while): there is one durable owner per database, a second one is refused by its lock (docs/adr/0023). For more coordinators install more releases, each with a database of its own." (int .coordinator.replicas)) }}
{{- end }}
{{- if and .analyzer.autoscaling.enabled (lt (int .analyzer.autoscaling.maxReplicas) (int .analyzer.autoscaling.minReplicas)) }}
{{- fail "analyzer.autoscaling.maxReplicas is below analyzer.autoscaling.minReplicas" }}
{{- end }}
{{- range $part := tuple "generator" "trainer" }}
{{- $scaling := (index $.Values $part).autoscaling }}
{{- if $scaling.enabled }}
{{- if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) }}
{{- fail (printf "%s.autoscaling.maxReplicas is below %s.autoscaling.minReplicas" $part $part) }}
{{- end }}
{{- if and (gt (int $scaling.maxReplicas) 1) (not $.Values.coordinator.spread) }}
{{- fail (printf "%s.autoscaling.maxReplicas is %d, and the coordinator talks to one replica of each worker: set coordinator.spread, or leave it at 1" $part (int $scaling.maxReplicas)) }}
{{- end }}
{{- if or $.Values.security.tokens.existingSecret $.Values.security.settings.OIDC_ISSUER }}
{{- fail (printf "%s.autoscaling.enabled: KEDA shows certificates and no tokens, so the coordinator would refuse it; scale by hand, or use tls.mutual without tokens" $part) }}
{{- end }}
{{- if and $.Values.networkPolicy.enabled (not $.Values.networkPolicy.keda) }}
{{- fail "networkPolicy.keda is empty: KEDA would not reach the coordinator; name where it is, for example [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: keda}}}]" }}
{{- end }}
{{- end }}
{{- end }}
{{- if not .allowPlaintext }}
{{- if not .tls.enabled }}
{{- fail "tls.enabled is false, so everybody who reaches a pod may read and call: set tls.enabled, or say aloud that the network is trusted with allowPlaintext=true" }}
{{- else if not (or .tls.mutual .security.tokens.existingSecret .security.settings.OIDC_ISSUER) }}
{{- fail "nobody is asked who they are: set tls.mutual, security.tokens.existingSecret or security.settings.OIDC_ISSUER, or say aloud that the network is trusted with allowPlaintext=true" }}
{{- end }}
{{- end }}
{{- if and .tls.enabled (not .tls.certManager.enabled) (not .tls.existingSecret) }}
{{- fail "tls.existingSecret is empty: name a Secret with tls.crt, tls.key and ca.crt, or set tls.certManager.enabled" }}
{{- end }}
{{- if and .security.tokens.existingSecret (not .tls.enabled) }}
{{- fail "security.tokens.existingSecret needs tls.enabled: a token is not sent in clear text" }}
{{- end }}
{{- if and (or .security.tokens.existingSecret .security.settings.OIDC_ISSUER) (not .security.clientToken.existingSecret) }}
{{- fail "security.clientToken.existingSecret is empty: where tokens are asked for, the coordinator needs one of the role run" }}
{{- end }}
{{- if and .security.clientToken.existingSecret (not .tls.enabled) }}
{{- fail "security.clientToken.existingSecret needs tls.enabled: a token is not sent in clear text" }}
{{- end }}
{{- if and (eq .store.kind "s3") (not .store.s3.url) }}
{{- fail "store.s3.url is empty: name the bucket, as s3://bucket/prefix" }}
{{- end }}
{{- range $part := tuple "coordinator" "generator" "trainer" "analyzer" }}
{{- $own := index $.Values $part }}
{{- if gt (add (int (default 10 $own.settings.GRACE)) 15) (int $own.terminationGracePeriodSeconds) }}
{{- fail (printf "%s.terminationGracePeriodSeconds must be 15 or more above %s.settings.GRACE (10 unless it is set), or the pod is killed while it drains" $part $part) }}
{{- end }}
{{- end }}
{{- if .networkPolicy.enabled }}
{{- if and (eq .store.kind "s3") (not .networkPolicy.objectStore.to) }}
{{- fail "networkPolicy.objectStore.to is empty: with store.kind s3 no pod would reach the bucket; name where it is, for example [{ipBlock: {cidr: 10.0.0.0/8}}]" }}
{{- end }}
{{- if and .database.existingSecret (not .networkPolicy.database.to) }}
{{- fail "networkPolicy.database.to is empty: the coordinator would not reach PostgreSQL; name where it is, for example [{podSelector: {matchLabels: {app: postgres}}}]" }}
{{- end }}
{{- if and .generator.backends (not .networkPolicy.inference.to) }}
{{- fail "networkPolicy.inference.to is empty: the generator would not reach the servers of generator.backends; name where they are, for example [{podSelector: {matchLabels: {app: vllm}}}]" }}
{{- end }}
{{- if and .monitoring.serviceMonitor.enabled (not .networkPolicy.prometheus) }}
{{- fail "networkPolicy.prometheus is empty: Prometheus would not reach /metrics; name where it is, for example [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
