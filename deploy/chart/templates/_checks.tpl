{{/* What the schema cannot say, or cannot give the reason for. */}}
{{- define "ouroscope.checks" -}}
{{- include "ouroscope.secretsChecks" . }}
{{- $secret := dict }}
{{- range $purpose, $_ := include "ouroscope.external" . | fromYaml }}
{{- $_ := set $secret $purpose (include "ouroscope.secret" (dict "root" $ "of" $purpose)) }}
{{- end }}
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
{{- if or $secret.tokens $.Values.security.settings.OIDC_ISSUER }}
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
{{- else if not (or .tls.mutual $secret.tokens .security.settings.OIDC_ISSUER) }}
{{- fail "nobody is asked who they are: set tls.mutual, security.tokens.existingSecret or security.settings.OIDC_ISSUER, or say aloud that the network is trusted with allowPlaintext=true" }}
{{- end }}
{{- end }}
{{- if and .tls.enabled (not .tls.certManager.enabled) (not $secret.tls) }}
{{- fail "tls.existingSecret is empty: name a Secret with tls.crt, tls.key and ca.crt, set externalSecrets.tls, or tls.certManager.enabled" }}
{{- end }}
{{- if and $secret.tokens (not .tls.enabled) }}
{{- fail "security.tokens.existingSecret needs tls.enabled: a token is not sent in clear text" }}
{{- end }}
{{- if and (or $secret.tokens .security.settings.OIDC_ISSUER) (not $secret.clientToken) }}
{{- fail "security.clientToken.existingSecret is empty: where tokens are asked for, the coordinator needs one of the role run, in a Secret or as externalSecrets.clientToken" }}
{{- end }}
{{- if and $secret.clientToken (not .tls.enabled) }}
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
{{- if or .ray.enabled .ray.job.enabled }}
{{- if not $secret.ray }}
{{- fail "ray.existingSecret is empty: name a Secret with a token of 32 signs or more under auth_token (kubectl create secret generic NAME --from-literal=auth_token=$(openssl rand -hex 32)), or set externalSecrets.ray; without one, whoever reaches a cluster of Ray runs programs on it" }}
{{- end }}
{{- include "ouroscope.rayChecks" . }}
{{- end }}
{{- if .trainer.jobs.enabled }}
{{- include "ouroscope.jobsChecks" . }}
{{- end }}
{{- if .networkPolicy.enabled }}
{{- if and (eq .store.kind "s3") (not .networkPolicy.objectStore.to) }}
{{- fail "networkPolicy.objectStore.to is empty: with store.kind s3 no pod would reach the bucket; name where it is, for example [{ipBlock: {cidr: 10.0.0.0/8}}]" }}
{{- end }}
{{- if and $secret.database (not .networkPolicy.database.to) }}
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

{{- define "ouroscope.rayChecks" -}}
{{- if lt (int .ray.worker.maxReplicas) (int .ray.worker.minReplicas) }}
{{- fail "ray.worker.maxReplicas is below ray.worker.minReplicas" }}
{{- end }}
{{- if and (not .ray.autoscaling.enabled) (lt (int .ray.worker.minReplicas) 1) }}
{{- fail "ray.worker.minReplicas is 0, and nothing would ever start a worker: give it 1 or more, or set ray.autoscaling.enabled" }}
{{- end }}
{{- if and (eq .store.kind "volume") (eq .store.volume.accessMode "ReadWriteOnce") (not .store.volume.existingClaim) }}
{{- fail "ray needs a store that pods of several nodes mount: store.volume.accessMode ReadWriteMany, or store.kind s3" }}
{{- end }}
{{- if .ray.enabled }}
{{- range $name := tuple "EXECUTOR" "RAY_ADDRESS" "PROCESSES" }}
{{- if hasKey (index $ $.ray.serves).settings $name }}
{{- fail (printf "%s.settings.%s is set by ray.enabled: leave it out (the number of workers is ray.processes)" $.ray.serves $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .ray.job.enabled }}
{{- if not .ray.job.corpus }}
{{- fail "ray.job.corpus is empty: name what is to be analysed, as corpus/DIGEST or a folder that all nodes see" }}
{{- end }}
{{- if ne .store.kind "volume" }}
{{- fail "ray.job.enabled needs store.kind volume, since the command line keeps its store in a folder; with s3 set ray.enabled and ask the analyzer" }}
{{- end }}
{{- if and .networkPolicy.enabled (not .networkPolicy.kuberay) }}
{{- fail "networkPolicy.kuberay is empty: KubeRay would not hear how the job goes; name where it is, for example [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kuberay-system}}}]" }}
{{- end }}
{{- end }}
{{- if and .ray.autoscaling.enabled .networkPolicy.enabled (not .networkPolicy.apiServer.to) }}
{{- fail "networkPolicy.apiServer.to is empty: Ray's autoscaler would not reach Kubernetes; name its addresses (kubectl get endpoints kubernetes), for example [{ipBlock: {cidr: 10.0.0.1/32}}]" }}
{{- end }}
{{- $own := index . .ray.serves }}
{{- if and .ray.enabled (gt (int (ternary $own.autoscaling.maxReplicas $own.replicas $own.autoscaling.enabled)) 1) }}
{{- fail (printf "%s: one replica keeps all workers of the cluster, and a second would find none: set %s.autoscaling.enabled=false and %s.replicas=1; more at a time is for ray.processes" .ray.serves .ray.serves .ray.serves) }}
{{- end }}
{{- end }}
