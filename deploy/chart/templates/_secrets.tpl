{{/* Secrets that the chart uses, and who makes them. Each takes a dict: root, and of, which purpose. */}}

{{/* What External Secrets is asked for: by purpose, each key of its Secret with where it lies in the store. */}}
{{- define "ouroscope.external" -}}
{{- with .Values }}
{{- $asked := .externalSecrets }}
database: {{ dict .database.key $asked.database | toJson }}
migration: {{ dict .database.migration.key $asked.migration | toJson }}
s3: {{ dict "AWS_ACCESS_KEY_ID" $asked.s3.accessKeyId "AWS_SECRET_ACCESS_KEY" $asked.s3.secretAccessKey | toJson }}
tokens: {{ dict .security.tokens.key $asked.tokens | toJson }}
clientToken: {{ dict .security.clientToken.key $asked.clientToken | toJson }}
tls: {{ dict "tls.crt" $asked.tls.certificate "tls.key" $asked.tls.privateKey "ca.crt" $asked.tls.authority | toJson }}
ray: {{ dict "auth_token" $asked.ray | toJson }}
{{- end }}
{{- end }}

{{/* The Secret for a purpose: one that is there, or one that External Secrets makes; empty where there is none. */}}
{{- define "ouroscope.secret" -}}
{{- default (include "ouroscope.existingSecret" .) (include "ouroscope.externalSecret" .) -}}
{{- end }}

{{- define "ouroscope.externalSecret" -}}
{{- $asked := false -}}
{{- range index (include "ouroscope.external" .root | fromYaml) .of }}{{ if .key }}{{ $asked = true }}{{ end }}{{ end -}}
{{- if $asked }}{{ include "ouroscope.fullname" .root }}-{{ kebabcase .of }}{{ end -}}
{{- end }}

{{- define "ouroscope.existingSecret" -}}
{{- with .root.Values -}}
{{- get (dict "database" .database.existingSecret "migration" .database.migration.existingSecret "s3" .store.s3.existingSecret "tokens" .security.tokens.existingSecret "clientToken" .security.clientToken.existingSecret "tls" .tls.existingSecret "ray" .ray.existingSecret) $.of -}}
{{- end -}}
{{- end }}

{{/* What does not go together of them; takes the root. */}}
{{- define "ouroscope.secretsChecks" -}}
{{- $store := .Values.externalSecrets.store.name -}}
{{- $some := false -}}
{{- range $purpose, $wanted := include "ouroscope.external" . | fromYaml -}}
{{- $of := dict "root" $ "of" $purpose -}}
{{- $asked := include "ouroscope.externalSecret" $of -}}
{{- range $key, $remote := $wanted -}}
{{- if and (not $remote.key) (or $asked $remote.property) -}}
{{- fail (printf "externalSecrets.%s: %s has no key: say where the store of External Secrets has it" $purpose $key) -}}
{{- end -}}
{{- end -}}
{{- if $asked -}}
{{- $some = true -}}
{{- if include "ouroscope.existingSecret" $of -}}
{{- fail (printf "externalSecrets.%s makes a Secret, and existingSecret names one that is there: leave one of them out" $purpose) -}}
{{- end -}}
{{- if not $store -}}
{{- fail (printf "externalSecrets.store.name is empty: name the SecretStore or ClusterSecretStore that has externalSecrets.%s" $purpose) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $store (not $some) -}}
{{- fail "externalSecrets.store is named and no secret is asked of it: give externalSecrets.database, s3, tokens, clientToken, tls or ray a key" -}}
{{- end -}}
{{- include "ouroscope.purposesChecks" . -}}
{{- end }}

{{- define "ouroscope.purposesChecks" -}}
{{- $external := .Values.externalSecrets -}}
{{- with .Values -}}
{{- if and $external.s3.accessKeyId.key (ne .store.kind "s3") -}}
{{- fail "externalSecrets.s3 needs store.kind s3" -}}
{{- end -}}
{{- if and $external.tls.certificate.key (or (not .tls.enabled) .tls.certManager.enabled) -}}
{{- fail "externalSecrets.tls needs tls.enabled without tls.certManager.enabled, which would make certificates of its own" -}}
{{- end -}}
{{- if and $external.ray.key (not (or .ray.enabled .ray.job.enabled)) -}}
{{- fail "externalSecrets.ray needs ray.enabled or ray.job.enabled" -}}
{{- end -}}
{{- if and (include "ouroscope.secret" (dict "root" $ "of" "migration")) (not (include "ouroscope.secret" (dict "root" $ "of" "database"))) -}}
{{- fail "database.migration needs database.existingSecret or externalSecrets.database: it is another role of the same PostgreSQL database" -}}
{{- end -}}
{{- if and .database.migration.grantTo (not (include "ouroscope.secret" (dict "root" $ "of" "migration"))) -}}
{{- fail "database.migration.grantTo needs database.migration.existingSecret or externalSecrets.migration: who would grant?" -}}
{{- end -}}
{{- end -}}
{{- end }}
