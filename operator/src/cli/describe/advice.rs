//! Remedies for each reason that the operator can give. `docs/reference/conditions.md` has more.

mod gateway;

/// Whose reason it is: the same word can ask for different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Of {
    /// A Certificate's condition or last failure.
    Certificate,
    /// The word in brackets in the message of a `ChallengeFailed`.
    Solver,
    /// An issuer's condition.
    Issuer,
    /// A Gateway's condition, or that of one of its listeners.
    Gateway,
}

/// Returns the remedy; none for a reason that this version does not know.
pub(in crate::cli) fn advice(of: Of, reason: &str) -> Option<&'static str> {
    let table = match of {
        Of::Certificate => CERTIFICATE,
        Of::Solver => SOLVER,
        Of::Issuer => ISSUER,
        Of::Gateway => gateway::GATEWAY,
    };
    table
        .iter()
        .find(|(known, _)| *known == reason)
        .map(|(_, advice)| *advice)
}

/// Returns the reasons of solvers in brackets in a message, in its order.
pub(in crate::cli) fn solver_words(message: &str) -> Vec<&'static str> {
    let mut found: Vec<(usize, &'static str)> = SOLVER
        .iter()
        .filter_map(|(word, _)| Some((message.find(&format!("({word})"))?, *word)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, word)| word).collect()
}

type Table = &'static [(&'static str, &'static str)];

const CERTIFICATE: Table = &[
    (
        "Invalid",
        "Change the spec, or the issuer's, as the message says: it is tried again as soon as it is changed.",
    ),
    (
        "IssuerNotReady",
        "Fix the issuer, or name another in issuerRef: its own condition follows below. The Certificate continues by itself.",
    ),
    (
        "NoSolver",
        "Add a solver for the name in the message to spec.acme.solvers of the issuer, or widen the selector of an existing one.",
    ),
    (
        "ChallengeFailed",
        "The CA looked for the answer and did not find it. HTTP-01: does port 80 of the name, from the Internet, lead to the ingress controller of the solver's class? DNS-01: do all public name servers of the zone show _acme-challenge? Then ask for another attempt.",
    ),
    (
        "Rejected",
        "The issuer said no, in the words of the message: to a name, the key, the profile, the duration, or for a CAA record. Change the spec, or ask the CA's owner.",
    ),
    (
        "RateLimited",
        "Wait: the CA said when to come again, and asking earlier makes it worse. If many Certificates ask for the same names, let one Secret serve them.",
    ),
    (
        "Network",
        "The CA could not be reached or gave no sensible answer. Is it up (see its status page)? May the operator's Pod connect to it: egress policies, DNS, proxy?",
    ),
    (
        "OrderGone",
        "The order vanished at the CA. Nothing is wrong with the spec; another order is placed automatically. If it happens again, look at the CA.",
    ),
    (
        "OrderTimedOut",
        "The CA neither issued nor refused, in the time that an order has. Look at its status page, or ask it about the order in the message. Another one is placed by itself.",
    ),
    (
        "SecretConflict",
        "Choose another secretName, or delete the Secret, or let Gatehouse take it over: kubectl annotate secret <name> gatehouse.dev/adopt=true",
    ),
    (
        "SecretImmutable",
        "The Secret is immutable, so that no other pair can be written: delete it, and it is made again.",
    ),
    (
        "SecretWriteFailed",
        "The API server refuses the Secret, in the words of the message: a quota, a policy or missing rights. What was issued is kept and written as soon as it may be.",
    ),
    (
        "KeystoreFailed",
        "Make the Secret that passwordSecretRef names, with a password of at least 6 characters under that key.",
    ),
    (
        "RolloutFailed",
        "The Secret has the new certificate, and the workloads in the message still serve the old one. It is tried again by itself; to do it now: kubectl rollout restart.",
    ),
    (
        "WorkloadNotFound",
        "Create the workload that the message names, or remove it from spec.rollout. The Certificate follows by itself.",
    ),
    (
        "KeyGenerationFailed",
        "The crypto library failed. Restart the operator; if it happens again, report it with the operator's log.",
    ),
    (
        "ReissueHeld",
        "Many Certificates would be issued again at once without a request. Find out what deletes or damages Secrets. If it is intended, request this one with: gatehouse renew",
    ),
    (
        "Forbidden",
        "The operator lacks a right that the message names. Install config/default (or config/namespaced) of its version again.",
    ),
    (
        "Unauthorized",
        "The API server does not accept the operator's credentials. Restart the operator; look at its service account.",
    ),
    (
        "QuotaExceeded",
        "The namespace's quota is used up. Raise it, or delete what is not needed.",
    ),
    (
        "NamespaceTerminating",
        "The namespace is being deleted. Nothing is made in it any more.",
    ),
    (
        "AlreadyExists",
        "Another object has the name in the message. Delete it if it is not needed.",
    ),
    (
        "NotFound",
        "An object that the message names was deleted. Gatehouse creates its own again automatically.",
    ),
    (
        "TooManyRequests",
        "The API server is overloaded. It is tried again by itself.",
    ),
    (
        "ServerError",
        "The API server fails, in the words of the message: an admission webhook that is down, for instance. It is tried again by itself.",
    ),
    ("Issuing", "Nothing: a certificate is being obtained."),
    // Reasons that no condition has: derived from outside.
    (
        "NotSeen",
        "Does the operator run, and does it watch this namespace? kubectl get pods -n gatehouse-system; its --namespace flags.",
    ),
    (
        "Overdue",
        "Does the operator run, and does one replica lead? kubectl get pods,leases -n gatehouse-system; its log says what it waits for.",
    ),
    (
        "Expired",
        "Does the operator run? kubectl get pods -n gatehouse-system. Then ask for a renewal.",
    ),
    (
        "Suspended",
        "Nothing is issued, renewed or repaired while spec.suspend is true. To continue: kubectl patch ghcert <name> --type=merge -p '{\"spec\":{\"suspend\":false}}'",
    ),
    (
        "Unreadable",
        "It was written past validation, or by a newer version. Correct its spec as the message says, or use the commands of the operator's version.",
    ),
];

const SOLVER: Table = &[
    (
        "DnsZoneNotFound",
        "No server knows a zone for the name. Is it registered and delegated? Behind split DNS give propagation.nameservers. For acme-dns add the CNAME in the message.",
    ),
    (
        "DnsRefused",
        "The DNS server or provider refuses the credentials or the change. The message says which of them; correct the Secret or the rights there.",
    ),
    (
        "DnsUnreachable",
        "No connection to the DNS server or provider. Check its address and port, and the operator's egress.",
    ),
    (
        "DnsFailed",
        "The DNS server or provider answered with an error of its own: its words are in the message.",
    ),
    (
        "DnsDelegated",
        "_acme-challenge of the name is a CNAME: set cnameStrategy: Follow in the solver, or remove the CNAME.",
    ),
    (
        "CnameLoop",
        "The CNAMEs of the name lead in a circle or too far: let it point straight to its target.",
    ),
    (
        "PropagationTimeout",
        "The record was written, but the servers in the message did not have it in time. Is a secondary not updated? For slow providers raise propagation.timeout.",
    ),
    (
        "IngressNotPermitted",
        "The Issuer may not put this on an Ingress in the operator's namespace. Remove it, use a ClusterIssuer, or permit it by the flag in the message.",
    ),
    (
        "AddressRefused",
        "The host is at an address that Gatehouse does not connect to (loopback, link-local, metadata). Name another host.",
    ),
    (
        "SecretMissing",
        "Make the Secret with the credentials: an Issuer's is in its own namespace, a ClusterIssuer's in the operator's.",
    ),
    (
        "SecretKeyMissing",
        "The Secret with the credentials has no such key: correct the key in the solver, or the Secret.",
    ),
    (
        "SecretMalformed",
        "What is in the Secret is not in the form that the provider's documents show: write it again.",
    ),
    (
        "SecretUnreadable",
        "The operator may not read the Secret, or the API server failed: look at the operator's rights.",
    ),
    (
        "InvalidSolver",
        "A field of the solver is missing, unknown or impossible: the message lists what there is.",
    ),
    (
        "OutsideZones",
        "The name is outside of the solver's dnsZones: widen them, or add a solver for it.",
    ),
    (
        "IngressWriteFailed",
        "The API server refuses the Ingress, Service or EndpointSlice for the challenge in the operator's namespace: rights, quota, or an admission webhook of the ingress controller.",
    ),
];

const ISSUER: Table = &[
    ("Invalid", "Correct the issuer's spec as the message says."),
    (
        "SecretMissing",
        "Make the Secret that it names: an Issuer's is in its own namespace, a ClusterIssuer's in the operator's.",
    ),
    (
        "SecretMalformed",
        "The Secret has no such key, or what is there is no key: write it again.",
    ),
    (
        "SecretUnreadable",
        "The API server does not let the operator read the Secret: look at its rights.",
    ),
    (
        "SecretWriteFailed",
        "The account's new key cannot be kept: a quota, a policy or missing rights, in the words of the message.",
    ),
    (
        "Network",
        "The ACME server cannot be reached, or it is none. Check spec.acme.server and the operator's egress.",
    ),
    (
        "IngressNotPermitted",
        "A solver has what namespaced Issuers may not put on the HTTP-01 Ingress. Remove it, use a ClusterIssuer, or permit it by the flag in the message.",
    ),
    (
        "UntrustedServer",
        "TLS with the ACME server failed. For a private CA give spec.acme.caBundle or caBundleSecretRef.",
    ),
    ("RateLimited", "The CA limits new accounts or requests: wait."),
    (
        "ExternalAccountRequired",
        "The CA wants an external account binding: set spec.acme.externalAccountBinding with what the CA gave you.",
    ),
    (
        "AccountRefused",
        "Nothing is ordered until the CA accepts the account. Deactivated: delete the account's Secret, or name another in privateKeySecretRef, to make a new one. Revoked: ask the CA. New, with a binding: correct externalAccountBinding.",
    ),
    (
        "UserActionRequired",
        "The CA serves the account only after a user has done something there, such as to agree to new terms: see the URL in the message. Afterwards it continues within 15 minutes, at once when the Issuer's spec is changed.",
    ),
    ("IssuerNotReady", "The CA does not know the account any more."),
    (
        "Rejected",
        "The CA refuses the contact, the key or the account, in the words of the message.",
    ),
    (
        "ChallengeFailed",
        "The CA refuses, in the words of the message: see its documents.",
    ),
    (
        "OrderGone",
        "The CA has lost what it was asked about. It is tried again by itself.",
    ),
    (
        "InvalidCertificate",
        "tls.crt or ca.crt of the CA's Secret cannot be read: write it as PEM, the CA first, then its intermediates.",
    ),
    (
        "BrokenChain",
        "The certificates in the CA's Secret do not belong together: the CA first, then its intermediates.",
    ),
    (
        "KeyMismatch",
        "tls.key is not the key of tls.crt in the CA's Secret: write both again.",
    ),
    (
        "InvalidPrivateKey",
        "tls.key of the CA's Secret is no private key in PEM: write it again.",
    ),
    (
        "EncryptedPrivateKey",
        "tls.key of the CA's Secret is encrypted: decrypt it first (openssl pkey -in key.pem).",
    ),
    (
        "UnsupportedKeyAlgorithm",
        "The CA's key is of a kind that is not supported: RSA 2048 to 4096, ECDSA P-256 to P-521, or Ed25519.",
    ),
    (
        "NotACertificateAuthority",
        "The certificate in the Secret is not a CA: issue it with isCA: true.",
    ),
    (
        "MayNotSignCertificates",
        "The CA's certificate lacks the usage \"cert sign\": issue it with that usage.",
    ),
    ("AuthorityExpired", "The CA's time is over: renew it in its Secret."),
    ("AuthorityNotYetValid", "The CA's time has not come: check the clocks."),
    ("InvalidRequest", "The CA cannot sign the request, as its message says."),
    (
        "InvalidDuration",
        "The CA cannot sign for that time: correct the duration.",
    ),
    (
        "NameNotPermitted",
        "The CA's name constraints forbid a name, in the words of the message.",
    ),
    (
        "PathLengthExceeded",
        "A CA above allows fewer CAs below itself than there are or would be: use one with a longer path.",
    ),
    (
        "UsageNotPermitted",
        "The extended key usages of a CA and of those above it have nothing in common: re-issue the one that the message names.",
    ),
    (
        "PolicyRequired",
        "A CA requires a certificate policy, which Gatehouse does not write: re-issue it without requireExplicitPolicy.",
    ),
    (
        "UnknownCriticalExtension",
        "Clients refuse what is below a CA with a critical extension that they do not know: re-issue it without.",
    ),
    (
        "WeakAuthority",
        "Clients refuse the CA's signature or key: re-issue it with SHA-256 and at least 2048 bits.",
    ),
    (
        "CryptoLibraryFailed",
        "The crypto library failed. Restart the operator; if it happens again, report it with the operator's log.",
    ),
    // An issuer that was not examined yet, or does not exist.
    (
        "NotSeen",
        "Does the operator run, and does it look at this issuer? One that is kept to namespaces reads no ClusterIssuers.",
    ),
    (
        "NotFound",
        "Make the issuer, or correct issuerRef: kind is Issuer (in the Certificate's namespace) unless it says ClusterIssuer.",
    ),
];

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
