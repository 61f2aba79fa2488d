//! Remedies for Gateways and their listeners.

use super::Table;

pub(super) const GATEWAY: Table = &[
    // Accepted.
    (
        "UnknownProvider",
        "Write spec.service.provider, as the message says. Until then nothing is made that might be public.",
    ),
    (
        "DetectingProvider",
        "Wait: the provider is detected as soon as nodes and API groups can be read and the nodes are initialized. To decide it now, write spec.service.provider.",
    ),
    (
        "ScopeUnsupported",
        "This provider has no internal load balancers: use type NodePort or ClusterIP, or a load balancer in the cluster (provider: MetalLB), as the message says.",
    ),
    (
        "ConflictingAnnotation",
        "Remove the annotation, label or class in the message from spec.service, for it would make the Gateway public. Or write scope: External, if it may be.",
    ),
    (
        "ConflictingAddress",
        "Write a private address in spec.service.addresses, or scope: External.",
    ),
    (
        "MissingCompanion",
        "Write what the message asks for: a subnet or pool in spec.service.subnet, or private addresses in spec.service.addresses.",
    ),
    (
        "UnsupportedField",
        "The provider does not read the field that the message names: leave it out, or do what the message says in its place.",
    ),
    (
        "UnsupportedProtocol",
        "The provider has no such load balancer: write another protocol, or a Gateway of its own for UDP, as the message says.",
    ),
    (
        "ServiceConflict",
        "A Service of that name exists and does not belong to this Gateway. Write another spec.service.name, or delete that Service, or let Gatehouse adopt it: kubectl annotate service <name> gatehouse.dev/adopt=true",
    ),
    (
        "InvalidName",
        "Write a name that a Service can have in spec.service.name: at most 63 lower-case letters, digits and -, a letter first.",
    ),
    (
        "Invalid",
        "It was written past validation, or by a newer version. Correct its spec as the message says.",
    ),
    (
        "ListenersNotValid",
        "Fix the listeners that status.listeners names; the others serve.",
    ),
    // Programmed.
    (
        "NotAccepted",
        "See the condition Accepted: nothing is carried out before.",
    ),
    (
        "ServiceRefused",
        "The API server refuses the Service, in the words of the message: a quota, a policy, a port that is taken, missing rights. It is tried again by itself, at most every five minutes.",
    ),
    (
        "NetworkPolicyRefused",
        "The Service exists, and the NetworkPolicy of the spec does not: rename or delete the one that has its name, or do what the API server says in the message. It is tried again every half minute.",
    ),
    (
        "Withdrawn",
        "Find out who made it public (another writer of the Service, the wrong provider, the subnet), then change the Gateway's spec: any change tries again.",
    ),
    (
        "RecreateRequired",
        "Take the change back, or consent to a new load balancer by the command in the message. Without a fixed name the new one has its address before the old one goes; the address changes.",
    ),
    (
        "Recreating",
        "Nothing at first: the new load balancer needs some minutes. If it stays so, look at the Service's events: kubectl describe service",
    ),
    (
        "AddressPending",
        "Wait some minutes for the cloud. If it stays so: does the load balancer controller run, does it serve this class, is there a quota or an empty pool? Its messages are in the Service's events.",
    ),
    (
        "SourceRangesIgnored",
        "All clients are admitted: leave loadBalancerSourceRanges out, and restrict who may connect with security groups, as the message says.",
    ),
    // ExposureVerified.
    (
        "ExposureMismatch",
        "It is reachable from outside now. Close it first (spec.service.type: ClusterIP, or onMismatch: Withdraw), then see who else writes to the Service (kubectl get service -o yaml --show-managed-fields) and whether provider and subnet are right. docs/runbooks/exposure-mismatch.md",
    ),
    (
        "NotVerified",
        "The load balancer's name cannot be looked up from the operator's Pod, or the nodes cannot be read: the message says which. Look at DNS, egress and the operator's rights.",
    ),
    (
        "NoAddress",
        "See the condition Programmed: there is no Service that could be public.",
    ),
    // Of listeners.
    (
        "PortConflict",
        "Two listeners want one port for different things: do what the message says.",
    ),
    (
        "Pending",
        "Nothing, if it passes: the Service gets the port. If not, see the Gateway's own conditions.",
    ),
    (
        "NoMatchingPods",
        "Correct spec.target.selector, or the labels of the Pods: the message names the Pod that is nearest, and what differs. Or are there no Pods at all?",
    ),
    (
        "PodsNotReady",
        "Fix the Pods: the message names one and what it waits for. kubectl describe pod and its log say more.",
    ),
    (
        "TargetPortMissing",
        "Write in targetPort a port that the containers have: the message lists them. Or declare the port in the Pod template.",
    ),
    (
        "EndpointsPending",
        "Nothing, if it passes. If not: does the cluster's EndpointSlice controller run?",
    ),
    (
        "CertificateConflict",
        "A Certificate of that name exists and does not belong to this Gateway: rename the listener, or delete that Certificate.",
    ),
    (
        "CertificateRefused",
        "The API server refuses the Certificate, as the message says: fix the listener's hostname or issuerRef, or the quota or policy.",
    ),
    (
        "CertificatePending",
        "Nothing, if it passes: the Certificate was just asked for. If not, its story says why.",
    ),
    (
        "CertificateNotReady",
        "Look at the Certificate: its story says what fails and what to do (see Certificates above).",
    ),
    (
        "CertificateExpired",
        "Put a new certificate and its key into the Secret, or let Gatehouse make one: tls.certificate in place of certificateRefs.",
    ),
    (
        "InvalidCertificateRef",
        "Make the Secret of type kubernetes.io/tls in this namespace, with tls.crt and tls.key that belong together, or correct certificateRefs.",
    ),
    // Reasons that no condition has: derived from outside.
    (
        "NotSeen",
        "Does the operator run, of a version that knows Gateways, and does it watch this namespace? kubectl get pods -n gatehouse-system; its --namespace flags.",
    ),
    (
        "Unreadable",
        "It was written past validation, or by a newer version. Correct its spec as the message says, or use the commands of the operator's version.",
    ),
];
