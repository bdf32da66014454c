{{- define "forestall.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* Room is left for the longest suffix within the 63 characters of a Service's name. */ -}}
{{- define "forestall.fullname" -}}
{{- $name := include "forestall.name" . -}}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $both | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "forestall.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "forestall.selectorLabels" -}}
app.kubernetes.io/name: {{ include "forestall.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end -}}

{{- define "forestall.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "forestall.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: forestall
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "forestall.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "forestall.fullname" .) "default") -}}
{{- end -}}

{{- define "forestall.image" -}}
{{- $image := .Values.image -}}
{{- with .Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "forestall.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- /* Who makes the certificate: "cert-manager", "own" (a Secret of the operator's) or "self" (Forestall). */ -}}
{{- define "forestall.certificates" -}}
{{- if .Values.certManager.enabled -}}cert-manager
{{- else if .Values.tls.existingSecret -}}own
{{- else -}}self
{{- end -}}
{{- end -}}

{{- /* The Secret that is mounted, where Forestall does not make the certificate. */ -}}
{{- define "forestall.mountedSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-serving-tls" (include "forestall.fullname" .)) -}}
{{- end -}}

{{- /* A mode as Forestall names it, written `audit` or `{mode: audit}`. Unquoted, YAML 1.1 makes false of off. */ -}}
{{- define "forestall.mode" -}}
{{- if kindIs "map" . }}{{ include "forestall.mode" .mode }}
{{- else if kindIs "bool" . }}off
{{- else }}{{ . }}
{{- end -}}
{{- end -}}

{{- /* Every mode that the values name, as a JSON list. */ -}}
{{- define "forestall.modes" -}}
{{- $modes := list (include "forestall.mode" .Values.mode) -}}
{{- range .Values.rules -}}
{{- if hasKey . "mode" }}{{ $modes = append $modes (include "forestall.mode" .mode) }}{{ end -}}
{{- end -}}
{{- range .Values.namespaces -}}
{{- if hasKey . "mode" }}{{ $modes = append $modes (include "forestall.mode" .mode) }}{{ end -}}
{{- range .rules -}}
{{- $modes = append $modes (include "forestall.mode" .) -}}
{{- end -}}
{{- end -}}
{{- $modes | uniq | toJson -}}
{{- end -}}

{{- /* The guardrails that may be on somewhere, as a JSON list out of files/catalogue.json, with the kinds that
       their settings add. A namespace's label can switch on what has no mode of its own, so only a guardrail's
       own mode switches it off. */ -}}
{{- define "forestall.guardrails" -}}
{{- $values := .Values -}}
{{- $on := list -}}
{{- range $guardrail := .Files.Get "files/catalogue.json" | fromJsonArray -}}
{{- $settings := get $values.rules $guardrail.name | default dict -}}
{{- $isOn := not (and (hasKey $settings "mode") (eq (include "forestall.mode" $settings.mode) "off")) -}}
{{- range $values.namespaces -}}
{{- range $name, $entry := .rules -}}
{{- $mode := include "forestall.mode" $entry -}}
{{- if and (eq $name $guardrail.name) (ne $mode "off") }}{{ $isOn = true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $settings.customResources -}}
{{- $added := dict "apiGroups" (list .group) "resources" (list .plural) -}}
{{- $rule := merge (dict "apiVersions" (list "*") "operations" (list "CREATE" "UPDATE") "scope" (first $guardrail.rules).scope) $added -}}
{{- $_ := set $guardrail "rules" (append $guardrail.rules $rule) -}}
{{- $_ := set $guardrail "permissions" (append $guardrail.permissions (set $added "verbs" (list "list" "watch"))) -}}
{{- end -}}
{{- if $isOn }}{{ $on = append $on $guardrail }}{{ end -}}
{{- end -}}
{{- $on | toJson -}}
{{- end -}}

{{- /* Rules of a webhook configuration or a ClusterRole, from a list of them: those that differ in
       nothing but their resources become one. */ -}}
{{- define "forestall.merged" -}}
{{- $merged := dict -}}
{{- range . -}}
{{- $rest := omit . "resources" | toJson -}}
{{- $_ := set $merged $rest (concat (get $merged $rest | default list) .resources | uniq | sortAlpha) -}}
{{- end -}}
{{- $rules := list -}}
{{- range $rest := keys $merged | sortAlpha -}}
{{- $rules = append $rules (set (fromJson $rest) "resources" (get $merged $rest)) -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{- /* The rules of one webhook. */ -}}
{{- define "forestall.webhookRules" -}}
{{- $rules := list -}}
{{- range . }}{{ $rules = concat $rules .rules }}{{ end -}}
{{- include "forestall.merged" $rules -}}
{{- end -}}

{{- /* Bytes of a memory quantity; nothing where it is none. */ -}}
{{- define "forestall.bytes" -}}
{{- $text := kindIs "float64" . | ternary (int64 .) . | toString -}}
{{- if regexMatch "^[0-9]+([.][0-9]+)?([kMGT]|[KMGT]i)?$" $text -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $factors := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $factors $unit) | int64 -}}
{{- end -}}
{{- end -}}

{{- /* The operator's affinity; every term of a required node affinity also asks for an architecture that
       the image has. */ -}}
{{- define "forestall.affinity" -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- $architecture := dict "key" "kubernetes.io/arch" "operator" "In" "values" .Values.image.architectures -}}
{{- $node := get $affinity "nodeAffinity" | default dict -}}
{{- $required := get $node "requiredDuringSchedulingIgnoredDuringExecution" | default dict -}}
{{- $terms := list -}}
{{- range get $required "nodeSelectorTerms" | default (list dict) -}}
{{- $terms = append $terms (set . "matchExpressions" (append (get . "matchExpressions" | default list) $architecture)) -}}
{{- end -}}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- set $affinity "nodeAffinity" $node | toYaml -}}
{{- end -}}

{{- /* What a counter rose by in a window; a counter that is new counts whole, as increase() cannot see where it
       began. Takes the counter with its labels, and the window. */ -}}
{{- define "forestall.increase" -}}
{{- $counter := index . 0 -}}
{{- $window := index . 1 -}}
increase({{ $counter }}[{{ $window }}]) > 0 or ({{ $counter }} > 0 unless {{ $counter }} offset {{ $window }})
{{- end -}}

{{- /* Namespaces that are never judged, in JSON. */ -}}
{{- define "forestall.excludedNamespaces" -}}
{{- concat (list "kube-system" "kube-node-lease" (include "forestall.namespace" .)) .Values.excludeNamespaces | uniq | toJson -}}
{{- end -}}
