//! From an entry of `spec.acme.solvers` to a solver that works: reads the Secrets, checks what can be checked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gatehouse_crds::solver::{Dns01, Provider, Solver as Spec};
use hickory_proto::rr::Name;
use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::{
    Author, Reach, SecretReader, Solver, SolverError,
    dns01::{
        AcmeDnsAccounts, Dns01Solver, Library, Lookup, Origin, Place, RecordLocks, Rfc2136Writer, Server, Shared,
        Source, SystemServers, TxtWriter, check_config, fields_of, known_fields,
    },
    http::Http,
    http01::{Http01Router, Http01Solver},
    secrets,
};

/// Default of `propagation.timeout`.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// Makes solvers. One for the process: what its solvers find out about zones they share.
pub struct SolverFactory {
    reach: Reach,
    system: SystemServers,
    http: Result<Http, SolverError>,
    dns: Arc<Shared>,
    locks: Arc<RecordLocks>,
    http01_router: Arc<Http01Router>,
}

impl SolverFactory {
    /// `http01_router` answers HTTP-01 for all issuers.
    pub fn new(reach: Reach, system: SystemServers, http01_router: Arc<Http01Router>) -> Self {
        Self {
            reach,
            system,
            http: Http::new(reach),
            dns: Arc::default(),
            locks: Arc::default(),
            http01_router,
        }
    }

    /// Checks what an author may not write, and what no Secret is needed for: said before anything is ordered.
    pub fn check(&self, author: &Author, solvers: &[Spec]) -> Result<(), SolverError> {
        let http01 = solvers.iter().filter_map(|solver| solver.http01.as_ref());
        for http01 in http01 {
            self.http01_router.permits(author, &http01.ingress)?;
        }
        Ok(())
    }

    /// The caller keeps the solver until the Issuer or one of its Secrets changes.
    pub async fn build(
        &self,
        author: &Author,
        spec: &Spec,
        secrets: &dyn SecretReader,
    ) -> Result<Arc<dyn Solver>, SolverError> {
        match (&spec.http01, &spec.dns01) {
            (Some(http01), None) => {
                self.http01_router.permits(author, &http01.ingress)?;
                Ok(Arc::new(Http01Solver::new(
                    http01,
                    self.http01_router.clone(),
                    self.http.clone()?,
                )))
            }
            (None, Some(dns01)) => {
                let zones = spec.selector.as_ref().map_or(&[][..], |selector| &selector.dns_zones);
                Ok(Arc::new(self.dns01(author, dns01, zones, secrets).await?))
            }
            _ => Err(invalid("solvers", "an entry has exactly one of http01 and dns01")),
        }
    }

    async fn dns01(
        &self,
        author: &Author,
        spec: &Dns01,
        zones: &[String],
        secrets: &dyn SecretReader,
    ) -> Result<Dns01Solver, SolverError> {
        let propagation = spec.propagation.clone().unwrap_or_default();
        let given = propagation
            .nameservers
            .iter()
            .map(|server| Server::parse(server, "propagation.nameservers"))
            .collect::<Result<Vec<_>, _>>()?;
        let primary = match &spec.rfc2136 {
            Some(rfc2136) => Some(Server::parse(&rfc2136.nameserver, "rfc2136.nameserver")?),
            None => None,
        };
        let timeout = propagation.timeout.filter(|timeout| !timeout.is_negative());
        let timeout = timeout.and_then(|timeout| SignedDuration::try_from(std::time::Duration::from(timeout)).ok());
        let (place, account) = self.place(spec, primary.as_ref(), secrets).await?;
        // What one tenant finds out about zones, with servers of its own, is not another's.
        let owner = format!("{author} {account}");
        let lookup = Lookup::new(owner, given, primary, self.system.clone(), self.reach);
        Ok(Dns01Solver::new(
            place,
            lookup,
            timeout.unwrap_or(TIMEOUT),
            zones,
            self.dns.clone(),
        ))
    }

    /// Returns where records go, and by which account.
    async fn place(
        &self,
        spec: &Dns01,
        primary: Option<&Server>,
        secrets: &dyn SecretReader,
    ) -> Result<(Place, String), SolverError> {
        if let Some(acme_dns) = &spec.acme_dns {
            let json = secrets::read_text(secrets, &acme_dns.account_secret_ref).await?;
            let accounts = AcmeDnsAccounts::new(acme_dns, &json, self.http.clone()?)?;
            return Ok((Place::AcmeDns(accounts), acme_dns.host.clone()));
        }
        let (writer, account): (Arc<dyn TxtWriter>, String) =
            if let (Some(rfc2136), Some(server)) = (&spec.rfc2136, primary) {
                let secret = secrets::read_text(secrets, &rfc2136.tsig_secret_secret_ref).await?;
                let writer = Rfc2136Writer::new(rfc2136, server.clone(), &secret, self.reach)?;
                let account = format!("{} {}", rfc2136.nameserver, rfc2136.tsig_key_name);
                (Arc::new(writer), account)
            } else {
                let library = self.library(spec, secrets).await?;
                let account = library.account().to_string();
                (Arc::new(library), account)
            };
        let zone = spec
            .azure_dns
            .as_ref()
            .and_then(|azure| azure.hosted_zone_name.as_deref());
        let zone = zone
            .map(|zone| Name::from_ascii(format!("{}.", zone.trim_end_matches('.'))))
            .transpose()
            .map_err(|error| invalid("azureDNS.hostedZoneName", &error.to_string()))?;
        let place = Place::Zone {
            writer,
            cnames: spec.cname_strategy.unwrap_or_default(),
            zone,
        };
        Ok((place, account))
    }

    async fn library(&self, spec: &Dns01, secrets: &dyn SecretReader) -> Result<Library, SolverError> {
        let (kind, fields, source) = if let Some((kind, sources)) = fields_of(spec) {
            let mut fields = HashMap::new();
            for (name, source) in sources {
                let value = match source {
                    Source::Text(text) => Zeroizing::new(text.to_owned()),
                    Source::Secret(selector) => secrets::read_text(secrets, selector).await?,
                };
                fields.insert(name.to_owned(), value);
            }
            (kind, fields, "the solver".to_owned())
        } else if let Some(provider) = &spec.provider {
            let fields = provider_fields(provider, secrets).await?;
            (
                provider.kind,
                fields,
                format!("the Secret {}", provider.credentials_secret_ref.name),
            )
        } else {
            return Err(invalid("dns01", "names no provider"));
        };
        Library::new(kind, Origin { fields, source }, self.http.clone()?, self.locks.clone())
    }
}

/// Settings of the manifest, and what the Secret has of the provider's fields.
async fn provider_fields(
    provider: &Provider,
    secrets: &dyn SecretReader,
) -> Result<HashMap<String, Zeroizing<String>>, SolverError> {
    check_config(provider.kind, &provider.config)?;
    let name = &provider.credentials_secret_ref.name;
    let data = secrets::read(secrets, name).await?;
    let mut fields = plain_fields(&provider.config);
    for field in known_fields(provider.kind) {
        if let Some(value) = data.get(field) {
            fields.insert(field.to_owned(), secrets::text(name, field, value)?);
        }
    }
    Ok(fields)
}

fn plain_fields(config: &BTreeMap<String, String>) -> HashMap<String, Zeroizing<String>> {
    config
        .iter()
        .map(|(name, value)| (name.clone(), Zeroizing::new(value.clone())))
        .collect()
}

fn invalid(field: &str, detail: &str) -> SolverError {
    SolverError::InvalidSolver {
        field: field.into(),
        detail: detail.into(),
    }
}
