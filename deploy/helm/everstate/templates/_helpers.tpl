{{/* What everything of a release is called. Short enough for the names of its nodes. */}}
{{- define "everstate.name" -}}
{{- if contains "everstate" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-everstate" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The account that nodes run as. */}}
{{- define "everstate.account" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "everstate.name" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* By what its pods are found; never changed. */}}
{{- define "everstate.selector" -}}
app.kubernetes.io/name: everstate
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "everstate.labels" -}}
{{ include "everstate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{/* The pod, which is the same over either store but for its name and its volume. */}}
{{- define "everstate.pod" -}}
{{- $postgres := eq .Values.store.kind "postgres" -}}
metadata:
  labels:
    {{- include "everstate.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A node reads its configuration when it starts.
    checksum/config: {{ .Values.config | sha256sum | quote }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "everstate.account" . | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.drain.graceSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if $postgres }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "everstate.selector" . | nindent 10 }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "everstate.selector" . | nindent 10 }}
  {{- end }}
  containers:
    - name: everstate
      image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config=/etc/everstate/everstate.toml
        {{- if $postgres }}
        # The pod keeps its name, so a node that comes back takes its own work up at once.
        - --node-name=$(POD_NAME)
        - --advertise=http://$(POD_NAME).{{ include "everstate.name" . }}-nodes.$(POD_NAMESPACE).svc:7070
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: EVERSTATE_LISTEN
          value: 0.0.0.0:7070
        {{- if not $postgres }}
        - name: EVERSTATE_STORE
          value: sqlite:/var/lib/everstate/state.db
        {{- end }}
        {{- with .Values.blobs }}
        - name: EVERSTATE_BLOBS
          value: {{ . | quote }}
        {{- end }}
        {{- range $name, $value := .Values.env }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      {{- with .Values.existingSecret }}
      envFrom:
        - secretRef:
            name: {{ . | quote }}
      {{- end }}
      ports:
        - name: http
          containerPort: 7070
      # Long enough for a database that has to be waited for.
      startupProbe:
        httpGet:
          path: /livez
          port: http
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet:
          path: /livez
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 3
        timeoutSeconds: 3
        failureThreshold: 2
      lifecycle:
        # New requests go elsewhere before this node stops listening; then it gives what is under way 30 seconds.
        preStop:
          sleep:
            seconds: {{ .Values.drain.pauseSeconds }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop:
            - ALL
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/everstate
          readOnly: true
        - name: state
          mountPath: /var/lib/everstate
  volumes:
    - name: config
      configMap:
        name: {{ include "everstate.name" . }}
    - name: state
      {{- if $postgres }}
      # Nothing that lasts: a node is disposable.
      emptyDir:
        sizeLimit: 1Gi
      {{- else }}
      persistentVolumeClaim:
        claimName: {{ .Values.store.sqlite.existingClaim | default (include "everstate.name" .) | quote }}
      {{- end }}
{{- end -}}
