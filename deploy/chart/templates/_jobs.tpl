{{/* Trainings as Jobs: the trainer asks for one for each request, from this template. Each takes a dict: root. */}}

{{/* What the trainer itself is then: it needs no GPU, and no node that has one. */}}
{{- define "ouroscope.trainingFront" -}}
{{- $own := omit .root.Values.trainer "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "queue" -}}
{{- $own = set (set $own "gpus" 0) "resources" .root.Values.trainer.jobs.resources -}}
{{ toYaml (dict "own" $own "settings" (pick .root.Values.trainer.settings "LOG_LEVEL" "LOG_JSON" "QUEUE_LIMIT")) }}
{{- end }}

{{/* A Job as the trainer reads it; services/trainer/jobs/template.py says what must be in it. */}}
{{- define "ouroscope.trainingJob" -}}
{{- $own := .root.Values.trainer -}}
{{- $part := dict "root" .root "part" "training" "own" $own -}}
apiVersion: batch/v1
kind: Job
metadata:
  # The digest of a request is put behind it.
  name: {{ include "ouroscope.fullname" .root }}-train
  labels:
    {{- include "ouroscope.labels" .root | nindent 4 }}
    app.kubernetes.io/component: training
    {{- with $own.jobs.queue }}
    kueue.x-k8s.io/queue-name: {{ . }}
    {{- end }}
spec:
  {{- if $own.jobs.queue }}
  # Until the queue lets it begin; where there is no Kueue it waits, rather than to take what nobody has granted.
  suspend: true
  {{- end }}
  backoffLimit: {{ $own.jobs.retries }}
  activeDeadlineSeconds: {{ include "ouroscope.text" $own.jobs.deadlineSeconds }}
  ttlSecondsAfterFinished: {{ include "ouroscope.text" $own.jobs.keepSeconds }}
  # A pod that the cluster takes away (a drain, a preemption) was not at fault; the next one goes on from its checkpoint,
  # and begins only when that one has ended.
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions: [{type: DisruptionTarget, status: "True"}]
  template:
    metadata: {{- include "ouroscope.podMetadata" $part | nindent 6 }}
    spec:
      restartPolicy: Never
      {{- include "ouroscope.podHead" $part | nindent 6 }}
      containers:
        - name: training
          image: {{ include "ouroscope.image" (dict "root" .root "name" "model") }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [python, -m, services.trainer.task]
          env:
            - {name: OURO_TRAINER_STORE, value: {{ include "ouroscope.storeUrl" .root | quote }}}
            {{- range $name, $value := omit $own.settings "QUEUE_LIMIT" }}
            - {name: OURO_TRAINER_{{ $name }}, value: {{ include "ouroscope.text" $value | quote }}}
            {{- end }}
            {{- include "ouroscope.storeEnv" .root | nindent 12 }}
            {{- with $own.extraEnv }}{{ toYaml . | nindent 12 }}{{ end }}
          resources:
            {{- range $what := tuple "requests" "limits" }}
            {{ $what }}:
              {{- toYaml (index $own.resources $what) | nindent 14 }}
              {{- if $own.gpus }}
              {{ $own.gpuResource }}: {{ $own.gpus }}
              {{- end }}
            {{- end }}
          securityContext: {{- include "ouroscope.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: shared-memory, mountPath: /dev/shm}
            {{- if eq .root.Values.store.kind "volume" }}
            - {name: store, mountPath: /data/store}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: {{ $own.scratch }}}}
        - {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: {{ $own.sharedMemory }}}}
        {{- if eq .root.Values.store.kind "volume" }}
        - name: store
          persistentVolumeClaim: {claimName: {{ include "ouroscope.storeClaim" .root }}}
        {{- end }}
{{- end }}

{{- define "ouroscope.jobsChecks" -}}
{{- if .trainer.autoscaling.enabled }}
{{- fail "trainer.jobs.enabled and trainer.autoscaling.enabled exclude each other: with Jobs the trainer holds no GPU, so there is nothing to take away" }}
{{- end }}
{{- if .trainer.queue }}
{{- fail "trainer.queue puts the trainer itself into a queue, which holds no GPU where trainer.jobs.enabled: name the queue in trainer.jobs.queue" }}
{{- end }}
{{- if and (eq .store.kind "volume") (eq .store.volume.accessMode "ReadWriteOnce") (not .store.volume.existingClaim) }}
{{- fail "trainer.jobs needs a store that pods of several nodes mount: store.volume.accessMode ReadWriteMany, or store.kind s3" }}
{{- end }}
{{- if and .networkPolicy.enabled (not .networkPolicy.apiServer.to) }}
{{- fail "networkPolicy.apiServer.to is empty: the trainer would not reach Kubernetes to ask for Jobs; name its addresses (kubectl get endpoints kubernetes), for example [{ipBlock: {cidr: 10.0.0.1/32}}]" }}
{{- end }}
{{- end }}
