{{- define "holdfast.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "holdfast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "holdfast.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "holdfast.namespace" -}}
{{- .Values.namespace.name | default .Release.Namespace }}
{{- end }}

{{- define "holdfast.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "holdfast.fullname" .) }}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ include "holdfast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
control-plane: controller-manager
{{- end }}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "holdfast.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* "true" or "false" */}}
{{- define "holdfast.elects" -}}
{{- if kindIs "bool" .Values.leaderElection.enabled }}{{ .Values.leaderElection.enabled }}{{ else }}{{ gt (int .Values.replicaCount) 1 }}{{ end }}
{{- end }}

{{/* Every mistake that would only be seen later, when something does not work. */}}
{{- define "holdfast.check" -}}
{{- $v := .Values }}
{{- if not (has $v.netclient.order (list "sidecar" "sideBySide" "statusVolume")) }}
{{- fail (printf "netclient.order is %q: sidecar, sideBySide or statusVolume" $v.netclient.order) }}
{{- end }}
{{- if not (has $v.manager.configMap.proxyMode (list "" "auth" "noauth")) }}
{{- fail (printf "manager.configMap.proxyMode is %q: auth, noauth, or empty for no proxy" $v.manager.configMap.proxyMode) }}
{{- end }}
{{- if and $v.netclient.enabled (eq $v.netclient.order "sidecar") (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "netclient.order=sidecar needs Kubernetes 1.29, and this is %s: sideBySide or statusVolume work without native sidecars" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and $v.volumes.netclientConfig.usePVC (gt (int $v.replicaCount) 1) }}
{{- fail "volumes.netclientConfig.usePVC with more than one replica: all of them would be one and the same peer; without it each joins as a peer of its own" }}
{{- end }}
{{- if and $v.hostNetwork $v.netclient.enabled (gt (int $v.replicaCount) 1) }}
{{- fail "hostNetwork with netclient and more than one replica: on one node they would fight over one interface; run netclient once a node (netclient.enabled=false)" }}
{{- end }}
{{- if and $v.service.proxy.enabled $v.hostNetwork }}
{{- fail "service.proxy.enabled on the host network: the port differs from replica to replica, and a Service has but one" }}
{{- end }}
{{- if and $v.service.proxy.enabled (not $v.manager.configMap.proxyMode) }}
{{- fail "service.proxy.enabled without manager.configMap.proxyMode: there is no proxy" }}
{{- end }}
{{- if and $v.api.serverDomain (not $v.api.tokenSecret.name) }}
{{- fail "api.serverDomain needs api.tokenSecret.name: a Secret with the API token of the Netmaker server" }}
{{- end }}
{{- $impersonate := $v.rbac.impersonate }}
{{- if and $v.rbac.create (eq $v.manager.configMap.proxyMode "auth") $v.manager.impersonate.user }}
{{- if not (or (has $v.manager.impersonate.user $impersonate.users) (has "*" $impersonate.users)) }}
{{- fail (printf "manager.impersonate.user %q is not in rbac.impersonate.users: the API server would refuse every request" $v.manager.impersonate.user) }}
{{- end }}
{{- end }}
{{- range $group := $v.manager.impersonate.groups }}
{{- if and $v.rbac.create (eq $v.manager.configMap.proxyMode "auth") (not (or (has $group $impersonate.groups) (has "*" $impersonate.groups))) }}
{{- fail (printf "manager.impersonate.groups has %q, which is not in rbac.impersonate.groups: the API server would refuse every request" $group) }}
{{- end }}
{{- end }}
{{- if $v.api.token }}
{{- fail "api.token would be readable by everybody who may read the pod: put it into a Secret and name that in api.tokenSecret.name" }}
{{- end }}
{{- if kindIs "string" $v.netclient.token }}
{{- fail "netclient.token would be readable by everybody who may read the pod: put it into a Secret and name that in netclient.tokenSecret.name" }}
{{- end }}
{{- if $v.rbac.useBroadPermissions }}
{{- fail "rbac.useBroadPermissions does not exist: name whom the proxy may act for in rbac.impersonate" }}
{{- end }}
{{- if and $v.serviceMonitor.enabled (not $v.service.metrics.enabled) }}
{{- fail "serviceMonitor.enabled needs service.metrics.enabled" }}
{{- end }}
{{- end }}
