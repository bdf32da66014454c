{{- /* What both webhook configurations have in common. Takes root, kind (Mutating, Validating), path and
       guardrails. There is no caBundle in it but the operator's own: Forestall or cert-manager write
       theirs into the live object, and Helm and Argo CD leave alone what the manifest does not have. */ -}}
{{- define "forestall.webhookConfiguration" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $fullname := include "forestall.fullname" $root -}}
{{- $namespace := include "forestall.namespace" $root -}}
apiVersion: admissionregistration.k8s.io/v1
kind: {{ .kind }}WebhookConfiguration
metadata:
  name: {{ $fullname }}
  labels:
    {{- include "forestall.labels" $root | nindent 4 }}
  annotations:
    # AKS would rewrite the namespaceSelector.
    admissions.enforcer/disabled: "true"
    # Argo CD makes them when the Pods are healthy.
    argocd.argoproj.io/sync-wave: "1"
    {{- if $values.certManager.enabled }}
    cert-manager.io/inject-ca-from: {{ $namespace }}/{{ $fullname }}-serving
    {{- end }}
    {{- with $values.webhooks.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
webhooks:
  - name: {{ .path }}.forestall.dev
    clientConfig:
      service:
        namespace: {{ $namespace }}
        name: {{ $fullname }}
        path: /{{ .path }}
        port: 443
      {{- with $values.tls.caBundle }}
      caBundle: {{ b64enc . }}
      {{- end }}
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: {{ $values.webhooks.failurePolicy }}
    matchPolicy: Equivalent
    {{- if eq .path "mutate" }}
    # A repair that was made is not made again, so asking twice is safe.
    reinvocationPolicy: IfNeeded
    {{- end }}
    timeoutSeconds: {{ get $values.webhooks.timeoutSeconds (lower .kind) }}
    namespaceSelector:
      {{- with $values.webhooks.namespaceSelector.matchLabels }}
      matchLabels:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      matchExpressions:
        - key: kubernetes.io/metadata.name
          operator: NotIn
          values:
            {{- concat (list "kube-system" "kube-node-lease" $namespace) $values.excludeNamespaces | uniq | toYaml | nindent 12 }}
        {{- with $values.webhooks.namespaceSelector.matchExpressions }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.webhooks.objectSelector }}
    objectSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    # Forestall never judges these, so the API server need not ask. Neither can fail to evaluate.
    matchConditions:
      # What a controller makes of an object that was judged itself: ReplicaSets, their Pods, mirror Pods.
      - name: without-controller
        expression: >-
          !has(object.metadata.ownerReferences) ||
          !object.metadata.ownerReferences.exists(owner, has(owner.controller) && owner.controller == true)
      # Nothing but metadata or status changes; Argo CD writes the status of an Application that way.
      - name: content-changes
        expression: >-
          request.operation != 'UPDATE' ||
          object.exists(key, !(key in ['metadata', 'status']) && !(key in oldObject && object[key] == oldObject[key])) ||
          oldObject.exists(key, !(key in ['metadata', 'status']) && !(key in object))
      {{- with $values.webhooks.matchConditions }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    rules:
      {{- include "forestall.webhookRules" .guardrails | nindent 6 }}
{{- end -}}
