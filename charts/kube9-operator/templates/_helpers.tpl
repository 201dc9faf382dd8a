{{/*
Name of the release's objects. It does not depend on the name of the release: clients look for the Deployment
kube9-operator, and a namespace holds one agent, whose ConfigMaps have fixed names.
*/}}
{{- define "kube9-operator.fullname" -}}
{{- .Values.fullnameOverride | default .Values.nameOverride | default "kube9-operator" | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/*
Name of objects that have no namespace. A colon cannot occur in either part, so two releases never share a name.
*/}}
{{- define "kube9-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "kube9-operator.fullname" .) -}}
{{- end }}

{{/*
Labels by which the Deployment knows its pods. They can never change: a selector is immutable.
*/}}
{{- define "kube9-operator.selectorLabels" -}}
app.kubernetes.io/name: kube9-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
Labels of every object.
*/}}
{{- define "kube9-operator.labels" -}}
{{- $labels := include "kube9-operator.selectorLabels" . | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/version" (.Chart.AppVersion | toString) }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $labels "app.kubernetes.io/part-of" "kube9" }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- merge $labels (.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/*
Labels of the agent's pod. The versions are not among them: an upgrade that changes nothing restarts nothing.
*/}}
{{- define "kube9-operator.podLabels" -}}
{{- $labels := include "kube9-operator.selectorLabels" . | fromYaml }}
{{- $_ := set $labels "app" "kube9-operator" }}
{{- merge $labels (.Values.podLabels | default dict) (.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/*
Labels of the test's pod. Its name label differs: clients and `kubectl exec deploy/...` must not take it for the agent.
*/}}
{{- define "kube9-operator.testLabels" -}}
{{- $labels := dict "app.kubernetes.io/name" "kube9-operator-test" }}
{{- merge $labels (include "kube9-operator.labels" . | fromYaml) | toYaml }}
{{- end }}

{{/*
Name of the ServiceAccount.
*/}}
{{- define "kube9-operator.serviceAccountName" -}}
{{- if (.Values.serviceAccount).create }}
{{- .Values.serviceAccount.name | default (include "kube9-operator.fullname" .) -}}
{{- else }}
{{- (.Values.serviceAccount).name | default "default" -}}
{{- end }}
{{- end }}

{{/*
Reference of the image.
*/}}
{{- define "kube9-operator.image" -}}
{{- $image := .Values.image }}
{{- $registry := (.Values.global).imageRegistry | default $image.registry }}
{{- $name := $image.repository }}
{{- with $registry }}
{{- $name = printf "%s/%s" (trimSuffix "/" .) $name }}
{{- end }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest -}}
{{- else }}
{{- printf "%s:%s" $name ($image.tag | default .Chart.AppVersion) -}}
{{- end }}
{{- end }}

{{/*
Secrets to pull the image with, without doubles.
*/}}
{{- define "kube9-operator.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat (.Values.imagePullSecrets | default list) ((.Values.global).imagePullSecrets | default list) }}
{{- if kindIs "map" . }}
{{- $secrets = append $secrets (pick . "name") }}
{{- else }}
{{- $secrets = append $secrets (dict "name" .) }}
{{- end }}
{{- end }}
{{- with $secrets | uniq }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/*
The API key as it goes into a Secret of the release; nothing when there is none, or when the user has a Secret.
*/}}
{{- define "kube9-operator.apiKey" -}}
{{- if not .Values.existingSecret }}
{{- $key := .Values.apiKey | default "" | trim }}
{{- if regexMatch "\\s" $key }}
{{- fail "apiKey: has a space or a line break within it; give the key alone" }}
{{- end }}
{{- $key -}}
{{- end }}
{{- end }}

{{/*
Name of the Secret that holds the API key, whether there is one yet or not.
*/}}
{{- define "kube9-operator.secretName" -}}
{{- .Values.existingSecret | default (printf "%s-api-key" (include "kube9-operator.fullname" .)) -}}
{{- end }}

{{/*
Certificates given inline, for a ConfigMap of the release; nothing when there are none, or when the user has a ConfigMap.
*/}}
{{- define "kube9-operator.caBundle" -}}
{{- if not (.Values.server).caConfigMap }}
{{- with (.Values.server).caBundle | default "" | trim }}
{{- if contains "PRIVATE KEY" . }}
{{- fail "server.caBundle: has a private key in it; give certificates alone" }}
{{- end }}
{{- if not (contains "-----BEGIN CERTIFICATE-----" .) }}
{{- fail "server.caBundle: has no certificate in it; give PEM certificates" }}
{{- end }}
{{- . -}}
{{- end }}
{{- end }}
{{- end }}

{{/*
Name of the ConfigMap that holds the certificates; nothing when the public roots are trusted.
*/}}
{{- define "kube9-operator.caConfigMapName" -}}
{{- if (.Values.server).caConfigMap }}
{{- .Values.server.caConfigMap -}}
{{- else if include "kube9-operator.caBundle" . }}
{{- printf "%s-server-ca" (include "kube9-operator.fullname" .) -}}
{{- end }}
{{- end }}

{{/*
Variables that the chart sets.
*/}}
{{- define "kube9-operator.env" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: KUBE9_DB
  value: /data/kube9.db
- name: KUBE9_API_KEY_FILE
  value: /etc/kube9/api-key/apiKey
{{- with (.Values.server).url }}
- name: KUBE9_SERVER_URL
  value: {{ . | quote }}
{{- end }}
{{- if include "kube9-operator.caConfigMapName" . }}
- name: KUBE9_SERVER_CA_FILE
  value: /etc/kube9/server-ca/ca.crt
{{- end }}
{{- with .Values.syncInterval }}
- name: KUBE9_SYNC_INTERVAL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.statusInterval }}
- name: KUBE9_STATUS_INTERVAL
  value: {{ . | quote }}
{{- end }}
{{- with (.Values.privacy).detail }}
- name: KUBE9_PRIVACY_DETAIL
  value: {{ . | quote }}
{{- end }}
{{- with (.Values.privacy).excludeNamespaces }}
- name: KUBE9_EXCLUDE_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.logLevel }}
- name: KUBE9_LOG
  value: {{ . | quote }}
{{- end }}
{{- with .Values.logFormat }}
- name: KUBE9_LOG_FORMAT
  value: {{ . | quote }}
{{- end }}
{{- with (.Values.proxy).httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with (.Values.proxy).noProxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/*
Variables that the user adds. Of two with one name Kubernetes takes the last without a word, so a second is refused.
*/}}
{{- define "kube9-operator.extraEnv" -}}
{{- $taken := dict "KUBE9_API_KEY" "is never read: the key comes from a file; set apiKey or existingSecret" }}
{{- range include "kube9-operator.env" . | fromYamlArray }}
{{- $_ := set $taken (upper .name) "is set by the chart; use the value meant for it (see the chart's README.md)" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- $name := .name }}
{{- with get $taken (upper .name) }}
{{- fail (printf "extraEnv: %s %s" $name .) }}
{{- end }}
{{- $_ := set $taken (upper .name) "is given twice" }}
{{- end }}
{{- with .Values.extraEnv }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/*
Volume and mount of the service account token, where it is not mounted automatically. Both pods of the chart need it.
*/}}
{{- define "kube9-operator.tokenVolume" -}}
- name: service-account-token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}

{{- define "kube9-operator.tokenMount" -}}
- name: service-account-token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}

{{/*
Port of the first hop towards kube9-server: the proxy's when there is one.
*/}}
{{- define "kube9-operator.serverPort" -}}
{{- $url := urlParse ((.Values.proxy).httpsProxy | default (.Values.server).url | default "https://api.kube9.io") }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $port | default (eq $url.scheme "http" | ternary "80" "443") -}}
{{- end }}
