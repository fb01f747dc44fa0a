{{/* How the kubelet asks. On the host network no port is known beforehand, so the program asks itself. */}}
{{- define "holdfast.probe" -}}
{{- if .values.hostNetwork -}}
exec:
  command: [/holdfast, wait, --health={{ .endpoint }}]
timeoutSeconds: 3
{{- else -}}
httpGet: { path: /{{ .endpoint }}, port: health }
timeoutSeconds: 3
{{- end }}
{{- end }}

{{/* The container that joins the WireGuard network. */}}
{{- define "holdfast.netclient" -}}
{{- $v := .Values }}
{{- $n := $v.netclient -}}
- name: netclient
  image: {{ $n.image.repository }}:{{ $n.image.tag }}
  imagePullPolicy: {{ $n.image.pullPolicy }}
  {{- if eq $n.order "sidecar" }}
  restartPolicy: Always
  {{- end }}
  {{- with $n.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $n.args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  env:
    - name: TOKEN
      valueFrom: { secretKeyRef: { name: {{ $n.tokenSecret.name }}, key: {{ $n.tokenSecret.key }} } }
    {{- with $n.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if eq $n.order "sidecar" }}
  # Up, and with an address: only then does the manager start.
  startupProbe:
    exec:
      command: [/opt/holdfast/holdfast, wait, "interface:{{ $v.manager.interface }}", --once]
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: {{ $n.startupSeconds }}
  {{- else if eq $n.order "statusVolume" }}
  lifecycle:
    postStart:
      exec:
        # It says so on the shared volume; the manager's container waits for that.
        command:
          - /opt/holdfast/holdfast
          - wait
          - interface:{{ $v.manager.interface }}
          - --timeout={{ $n.startupSeconds }}s
          - --
          - /bin/sh
          - -c
          - echo joined >/run/netclient/joined
  {{- else }}
  # It gates no sibling, only whether the pod is Ready: the manager waits by itself.
  readinessProbe:
    exec:
      command: [/bin/sh, -c, "ip addr show {{ $v.manager.interface }} | grep inet"]
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 12
  {{- end }}
  securityContext:
    {{- toYaml $n.securityContext | nindent 4 }}
  resources:
    {{- toYaml $n.resources | nindent 4 }}
  volumeMounts:
    - { name: etc-netclient, mountPath: /etc/netclient }
    - { name: log-netclient, mountPath: /var/log }
    {{- if ne $n.order "sideBySide" }}
    - { name: holdfast, mountPath: /opt/holdfast, readOnly: true }
    {{- end }}
    {{- if eq $n.order "statusVolume" }}
    - { name: status, mountPath: /run/netclient }
    {{- end }}
{{- end }}
