//! What stands behind Forestall's webhooks: its Service and its Pods.

use std::collections::BTreeSet;

use super::Check;
use super::api::Unread;
use super::facts::Facts;
use super::installation::VERSION;
use super::pods::Runner;

/// The Service exists, has the port that is called, and leads somewhere.
pub(super) fn service(facts: &Facts) -> Check {
    const NAME: &str = "service";
    let Some(home) = &facts.home else {
        return Check::unknown(
            NAME,
            "Forestall is called by URL, so no Service leads to it",
        );
    };
    let Some(backend) = facts.backends.get(home) else {
        return Check::unknown(NAME, format!("Service {home} was not asked for"));
    };
    let off = facts.own().find(|hook| hook.fails());
    let off = off.map_or_else(String::new, |hook| {
        let (resource, name) = (hook.phase.resource(), &hook.configuration);
        format!("; to free the cluster now: `kubectl delete {resource} {name}`")
    });
    let service = match &backend.service {
        Ok(service) => service,
        Err(Unread::Absent(_)) => {
            let cure = format!("upgrade the chart, which makes it{off}");
            return Check::error(NAME, format!("Service {home} does not exist"), cure);
        }
        Err(reason) => return Check::unread(NAME, &format!("Service {home}"), reason),
    };
    let ports = service.spec.iter().flat_map(|spec| &spec.ports).flatten();
    let ports: Vec<_> = ports.map(|port| port.port).collect();
    if let Some(hook) = facts.own().find(|hook| !ports.contains(&hook.port())) {
        let message = format!(
            "{hook} calls port {} of Service {home}, which has {ports:?}",
            hook.port()
        );
        return Check::error(NAME, message, format!("write one port in both{off}"));
    }
    if let Some(name) = backend.external_name() {
        let message = format!("Service {home} stands for {name}, and so has no endpoints to see");
        return Check::unknown(NAME, message);
    }
    match &backend.endpoints {
        Err(reason) => Check::unread(NAME, &format!("endpoints of Service {home}"), reason),
        Ok(endpoints) if endpoints.ready == 0 => {
            let message = format!(
                "Service {home} has no ready endpoint ({} not ready)",
                endpoints.all
            );
            let namespace = &home.namespace;
            let cure = format!("see why: `kubectl -n {namespace} get pods,events`{off}");
            Check::error(NAME, message, cure)
        }
        Ok(endpoints) if endpoints.ready == 1 && !off.is_empty() => Check::warning(
            NAME,
            format!(
                "Service {home} has one ready endpoint, and failurePolicy Fail: without it nothing that is guarded can be written"
            ),
            "run two replicas or more",
        ),
        Ok(endpoints) => {
            let (ready, all) = (endpoints.ready, endpoints.all);
            Check::ok(
                NAME,
                format!("Service {home} has {ready} ready of {all} endpoints"),
            )
        }
    }
}

/// The Pods are there, and say of themselves how they are.
pub(super) fn pods(facts: &Facts) -> Check {
    const NAME: &str = "pods";
    let pods = match &facts.pods {
        Ok(pods) => pods,
        Err(reason) => return Check::unread(NAME, "Forestall's Pods", reason),
    };
    if pods.is_empty() {
        return Check::error(
            NAME,
            "the Service selects Pods, and there is none",
            "scale the Deployment up, or see why it makes none: `kubectl describe replicasets`",
        );
    }
    let named = |wanted: &dyn Fn(&&Runner) -> bool| {
        let names = pods.iter().filter(wanted).map(|pod| pod.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    if let Some(waiting) = pods.iter().find(|pod| !pod.is_ready()) {
        let message = format!("not ready: {}", named(&|pod| !pod.is_ready()));
        let (namespace, name) = (&waiting.namespace, &waiting.name);
        let cure = format!(
            "see why: `kubectl -n {namespace} describe pod {name}`, and `kubectl get --raw \
             /api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/readyz`"
        );
        return Check::warning(NAME, message, cure);
    }
    if let Some(reason) = pods.iter().find_map(|pod| pod.samples.as_ref().err()) {
        let unread = named(&|pod| pod.samples.is_err());
        return Check::unread(NAME, &format!("metrics of {unread}"), reason);
    }
    let versions: BTreeSet<_> = facts
        .samples()
        .flat_map(|(_, samples)| samples.named("forestall_build_info"))
        .filter_map(|sample| sample.label("version"))
        .collect();
    let listed = versions.iter().copied().collect::<Vec<_>>().join(" and ");
    if versions
        .iter()
        .any(|version| *version != env!("CARGO_PKG_VERSION"))
    {
        let message = format!("they run {listed}, and this program is {VERSION}");
        let cure = "run the version of the Pods: guardrails and metrics may differ";
        return Check::warning(NAME, message, cure);
    }
    Check::ok(NAME, format!("{} ready, running {listed}", pods.len()))
}
