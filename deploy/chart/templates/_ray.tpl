{{/* Clusters of Ray: one that stays (RayCluster), one for a single analysis (RayJob). Each takes a dict: root. */}}

{{/* Ports of a head: what nodes ask, what a service asks, and where jobs are handed in. */}}
{{- define "ouroscope.rayPorts" -}}
{gcs: 6379, client: 10001, jobs: 8265, health: 52365}
{{- end }}

{{/* Who speaks with a cluster shows its token and tells nobody else of it. */}}
{{- define "ouroscope.rayEnv" -}}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "ouroscope.secret" (dict "root" .root "of" "ray") }}, key: auth_token}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end }}

{{- define "ouroscope.rayNodeEnv" -}}
{{ include "ouroscope.rayEnv" . }}
# A pod has nothing to do but this; without it workers would stand back behind whatever else is on the machine.
- {name: RAY_worker_niceness, value: "0"}
{{- include "ouroscope.storeEnv" .root }}
{{- with .root.Values.ray.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Memory that the processes of a node share: the object store, and as much again. */}}
{{- define "ouroscope.rayShared" -}}
{name: shared-memory, emptyDir: {medium: Memory, sizeLimit: "{{ mul 2 (int64 .root.Values.ray.objectStoreBytes) }}"}}
{{- end }}

{{/* The agent of a node answers for it, and for the head where it runs there. */}}
{{- define "ouroscope.rayProbes" -}}
{{- $health := index (include "ouroscope.rayPorts" . | fromYaml) "health" -}}
startupProbe:
  httpGet: {path: /api/healthz, port: {{ $health }}}
  timeoutSeconds: 10
  periodSeconds: 10
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /api/healthz, port: {{ $health }}}
  timeoutSeconds: 10
  periodSeconds: 15
  failureThreshold: 4
livenessProbe:
  httpGet: {path: /api/healthz, port: {{ $health }}}
  timeoutSeconds: 10
  periodSeconds: 30
  # A machine that is very busy may be late.
  failureThreshold: 10
{{- end }}

{{/* A container of a node; KubeRay gives it its command. Takes part, own and ports beside root. */}}
{{- define "ouroscope.rayContainer" -}}
- name: {{ .part }}
  # That of whoever asks: what a node has in another version is refused.
  image: {{ include "ouroscope.image" (dict "root" .root "name" (ternary "model" "service" (and (not .job) (eq .root.Values.ray.serves "generator")))) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  env: {{- include "ouroscope.rayNodeEnv" . | nindent 4 }}
    {{- if .home }}
    - {name: OUROSCOPE_HOME, value: /data}
    {{- end }}
  {{- if .ports }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
    {{- end }}
  {{- end }}
  {{- include "ouroscope.rayProbes" . | nindent 2 }}
  resources:
    {{- $own := .own }}
    {{- range $what := tuple "requests" "limits" }}
    {{ $what }}:
      {{- toYaml (index $own.resources $what) | nindent 6 }}
      {{- if $own.gpus }}
      {{ $own.gpuResource }}: {{ $own.gpus }}
      {{- end }}
    {{- end }}
  securityContext: {{- include "ouroscope.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: shared-memory, mountPath: /dev/shm}
    {{- if .home }}
    - {name: home, mountPath: /data}
    {{- end }}
    {{- if eq .root.Values.store.kind "volume" }}
    - {name: store, mountPath: /data/store}
    {{- end }}
{{- end }}

{{- define "ouroscope.rayVolumes" -}}
- {name: tmp, emptyDir: {sizeLimit: {{ .own.scratch }}}}
- {{ include "ouroscope.rayShared" . }}
{{- if .home }}
- {name: home, emptyDir: {sizeLimit: 1Gi}}
{{- end }}
{{- if eq .root.Values.store.kind "volume" }}
- name: store
  persistentVolumeClaim: {claimName: {{ include "ouroscope.storeClaim" .root }}}
{{- end }}
{{- end }}

{{/* The token of Kubernetes is in the autoscaler's container alone: work of the cluster runs in the one beside it. */}}
{{- define "ouroscope.rayAutoscaler" -}}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ .root.Values.ray.autoscaling.idleSeconds }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  resources: {requests: {cpu: 200m, memory: 512Mi}, limits: {cpu: "1", memory: 1Gi}}
  securityContext: {{- include "ouroscope.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: autoscaler-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{/* The spec of a cluster; `job` is set where it is for one analysis. */}}
{{- define "ouroscope.rayCluster" -}}
{{- $ray := .root.Values.ray -}}
{{- $job := default false .job -}}
{{- $ports := include "ouroscope.rayPorts" . | fromYaml -}}
{{- $head := dict "root" .root "part" "ray-head" "own" $ray.head "job" $job "home" $job "ports" (omit $ports "health" (ternary "client" "jobs" $job)) -}}
{{- /* KubeRay makes an account for the autoscaler; it would give its rights to ours. */ -}}
{{- $_ := set $head "withoutAccount" $ray.autoscaling.enabled -}}
{{- $worker := dict "root" .root "part" "ray-worker" "own" $ray.worker "job" $job -}}
rayVersion: {{ include "ouroscope.rayVersion" . | quote }}
authOptions: {mode: token, secretName: {{ include "ouroscope.secret" (dict "root" .root "of" "ray") }}}
{{- if $ray.autoscaling.enabled }}
{{ include "ouroscope.rayAutoscaler" . }}
{{- end }}
headGroupSpec:
  serviceType: ClusterIP
  rayStartParams:
    # Work goes to the workers: a head that runs out of memory would end all of it.
    num-cpus: "0"
    object-store-memory: {{ include "ouroscope.text" $ray.objectStoreBytes | quote }}
    {{- if $job }}
    # Jobs are handed in there; only KubeRay and the pod that does so reach it.
    dashboard-host: 0.0.0.0
    {{- else }}
    include-dashboard: "false"
    ray-client-server-port: {{ $ports.client | quote }}
    {{- end }}
  template:
    metadata: {{- include "ouroscope.podMetadata" $head | nindent 6 }}
    spec:
      {{- include "ouroscope.podHead" $head | nindent 6 }}
      containers: {{- include "ouroscope.rayContainer" $head | nindent 8 }}
      volumes:
        {{- include "ouroscope.rayVolumes" $head | nindent 8 }}
        {{- if $ray.autoscaling.enabled }}
        {{- include "ouroscope.tokenVolume" (dict "name" "autoscaler-token") | nindent 8 }}
        {{- end }}
workerGroupSpecs:
  - groupName: workers
    replicas: {{ $ray.worker.minReplicas }}
    minReplicas: {{ $ray.worker.minReplicas }}
    maxReplicas: {{ $ray.worker.maxReplicas }}
    rayStartParams:
      object-store-memory: {{ include "ouroscope.text" $ray.objectStoreBytes | quote }}
    template:
      metadata: {{- include "ouroscope.podMetadata" $worker | nindent 8 }}
      spec:
        {{- include "ouroscope.podHead" $worker | nindent 8 }}
        containers: {{- include "ouroscope.rayContainer" $worker | nindent 10 }}
        volumes: {{- include "ouroscope.rayVolumes" $worker | nindent 10 }}
{{- end }}

{{/* That of constraints.txt: a cluster speaks with its own version only. A test holds it to it. */}}
{{- define "ouroscope.rayVersion" -}}
2.60.0
{{- end }}
