//! Names that users and other tools rely on (`api.md`, "Annotations and labels").

/// The API group of all our kinds.
pub const GROUP: &str = "gatehouse.dev";

/// Field manager of every write, and `app.kubernetes.io/managed-by`.
pub const FIELD_MANAGER: &str = "gatehouse";

/// `reportingController` of events.
pub const REPORTING_CONTROLLER: &str = "gatehouse.dev/operator";

/// Label on everything that Gatehouse makes: `"true"`.
pub const MANAGED: &str = "gatehouse.dev/managed";

/// Value of [`MANAGED`] and [`ADOPT`].
pub const TRUE: &str = "true";

/// Annotation: name of the Certificate that a Secret belongs to.
pub const CERTIFICATE: &str = "gatehouse.dev/certificate";

/// Label: name of the Gateway that an object was made for.
pub const GATEWAY: &str = "gatehouse.dev/gateway";

/// Label on a Service of a Gateway: the provider that it says its words to, as in `spec.service.provider`.
pub const PROVIDER: &str = "gatehouse.dev/provider";

/// Annotation on a Gateway: the generation whose recreation its owner consents to.
pub const RECREATE: &str = "gatehouse.dev/recreate";

/// Annotation: who signed, as `<kind>/<name>`.
pub const ISSUER: &str = "gatehouse.dev/issuer";

/// Annotation: end of the leaf's validity, RFC 3339.
pub const NOT_AFTER: &str = "gatehouse.dev/not-after";

/// Annotation: serial number of the leaf, lower-case hexadecimal.
pub const SERIAL_NUMBER: &str = "gatehouse.dev/serial-number";

/// Annotation on a foreign Secret: its owner consents that Gatehouse overwrites it (`"true"`).
pub const ADOPT: &str = "gatehouse.dev/adopt";

/// Annotation on a Certificate: renew when newer than `status.issuedAt`, RFC 3339.
pub const RENEW_REQUESTED_AT: &str = "gatehouse.dev/renew-requested-at";

/// Annotation on a policy: send a test alert when it changes, RFC 3339.
pub const TEST_REQUESTED_AT: &str = "gatehouse.dev/test-requested-at";

/// Recommended label: the application.
pub const APP_NAME: &str = "app.kubernetes.io/name";

/// Recommended label: the part of the application.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";

/// Recommended label: who keeps the object; the value is [`FIELD_MANAGER`].
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
