//! How targets are found: `static_configs` and every `*_sd_configs`, as tables of keys.

use crate::config::schema::{Field, Kind, Schema, key, unchecked};

use super::discovery_check::*;
use super::http::{HTTP, TLS, check_http};

/// Inline keys of everything that has targets.
pub(in crate::config) static DISCOVERY: &[Field] = &[
    key("aws_sd_configs", Kind::Sections(&AWS, "empty or null section in aws_sd_configs")),
    key("azure_sd_configs", Kind::Sections(&AZURE, "empty or null section in azure_sd_configs")),
    key("consul_sd_configs", Kind::Sections(&CONSUL, "empty or null section in consul_sd_configs")),
    key(
        "digitalocean_sd_configs",
        Kind::Sections(&DIGITALOCEAN, "empty or null section in digitalocean_sd_configs"),
    ),
    key("dns_sd_configs", Kind::Sections(&DNS, "empty or null section in dns_sd_configs")),
    key("docker_sd_configs", Kind::Sections(&DOCKER, "empty or null section in docker_sd_configs")),
    key(
        "dockerswarm_sd_configs",
        Kind::Sections(&DOCKERSWARM, "empty or null section in dockerswarm_sd_configs"),
    ),
    key("ec2_sd_configs", Kind::Sections(&EC2, "empty or null section in ec2_sd_configs")),
    key("eureka_sd_configs", Kind::Sections(&EUREKA, "empty or null section in eureka_sd_configs")),
    key("file_sd_configs", Kind::Sections(&FILE, "empty or null section in file_sd_configs")),
    key("gce_sd_configs", Kind::Sections(&GCE, "empty or null section in gce_sd_configs")),
    key("hetzner_sd_configs", Kind::Sections(&HETZNER, "empty or null section in hetzner_sd_configs")),
    key("http_sd_configs", Kind::Sections(&HTTP_SD, "empty or null section in http_sd_configs")),
    key("ionos_sd_configs", Kind::Sections(&IONOS, "empty or null section in ionos_sd_configs")),
    key(
        "kubernetes_sd_configs",
        Kind::Sections(&KUBERNETES, "empty or null section in kubernetes_sd_configs"),
    ),
    key("kuma_sd_configs", Kind::Sections(&KUMA, "empty or null section in kuma_sd_configs")),
    key("lightsail_sd_configs", Kind::Sections(&LIGHTSAIL, "empty or null section in lightsail_sd_configs")),
    key("linode_sd_configs", Kind::Sections(&LINODE, "empty or null section in linode_sd_configs")),
    key("marathon_sd_configs", Kind::Sections(&MARATHON, "empty or null section in marathon_sd_configs")),
    key("nerve_sd_configs", Kind::Sections(&NERVE, "empty or null section in nerve_sd_configs")),
    key("nomad_sd_configs", Kind::Sections(&NOMAD, "empty or null section in nomad_sd_configs")),
    key("oci_sd_configs", Kind::Sections(&OCI, "empty or null section in oci_sd_configs")),
    key("openstack_sd_configs", Kind::Sections(&OPENSTACK, "empty or null section in openstack_sd_configs")),
    key("outscale_sd_configs", Kind::Sections(&OUTSCALE, "empty or null section in outscale_sd_configs")),
    key("ovhcloud_sd_configs", Kind::Sections(&OVHCLOUD, "empty or null section in ovhcloud_sd_configs")),
    key("puppetdb_sd_configs", Kind::Sections(&PUPPETDB, "empty or null section in puppetdb_sd_configs")),
    key("scaleway_sd_configs", Kind::Sections(&SCALEWAY, "empty or null section in scaleway_sd_configs")),
    key("serverset_sd_configs", Kind::Sections(&SERVERSET, "empty or null section in serverset_sd_configs")),
    key("stackit_sd_configs", Kind::Sections(&STACKIT, "empty or null section in stackit_sd_configs")),
    key("static_configs", Kind::Sections(&STATIC, "empty or null section in static_configs")),
    key("triton_sd_configs", Kind::Sections(&TRITON, "empty or null section in triton_sd_configs")),
    key("uyuni_sd_configs", Kind::Sections(&UYUNI, "empty or null section in uyuni_sd_configs")),
    key("vultr_sd_configs", Kind::Sections(&VULTR, "empty or null section in vultr_sd_configs")),
];

static FILTER: Schema = Schema {
    go: "aws.Filter",
    parts: &[&[key("name", Kind::Text).always(), key("values", Kind::Texts).always()]],
    check: unchecked,
};

static NAMESPACES: Schema = Schema {
    go: "kubernetes.plain",
    parts: &[&[key("own_namespace", Kind::Bool).always(), key("names", Kind::Texts).always()]],
    check: unchecked,
};

static SELECTOR: Schema = Schema {
    go: "kubernetes.SelectorConfig",
    parts: &[&[key("role", Kind::Text), key("label", Kind::Text), key("field", Kind::Text)]],
    check: unchecked,
};

static ATTACH_METADATA: Schema = Schema {
    go: "kubernetes.AttachMetadataConfig",
    parts: &[&[
        key("node", Kind::Bool).always(),
        key("namespace", Kind::Bool).always(),
        key("deployment", Kind::Bool).always(),
        key("job", Kind::Bool).always(),
        key("cronjob", Kind::Bool).always(),
    ]],
    check: unchecked,
};

static AWS: Schema = Schema {
    go: "aws.plain",
    parts: &[
        &[
            key("role", Kind::Text).always(),
            key("region", Kind::Text),
            key("endpoint", Kind::Text),
            key("access_key", Kind::Text),
            key("secret_key", Kind::Secret),
            key("profile", Kind::Text),
            key("role_arn", Kind::Text),
            key("external_id", Kind::Text),
            key("refresh_interval", Kind::Duration).or("1m"),
            key("port", Kind::Int),
        ],
        HTTP,
        &[key("filters", Kind::Sections(&FILTER, "empty or null filter")), key("clusters", Kind::Texts)],
    ],
    check: check_aws,
};

static AZURE: Schema = Schema {
    go: "azure.plain",
    parts: &[
        &[
            key("environment", Kind::Text).or("AzurePublicCloud"),
            key("port", Kind::Int).always().or("80"),
            key("subscription_id", Kind::Text).always(),
            key("tenant_id", Kind::Text),
            key("client_id", Kind::Text),
            key("client_secret", Kind::Secret),
            key("refresh_interval", Kind::Duration).or("5m"),
            key("authentication_method", Kind::Text).or("OAuth"),
            key("resource_group", Kind::Text),
        ],
        HTTP,
    ],
    check: check_azure,
};

static CONSUL: Schema = Schema {
    go: "consul.plain",
    parts: &[
        &[
            key("server", Kind::Text).or("localhost:8500"),
            key("path_prefix", Kind::Text),
            key("token", Kind::Secret),
            key("datacenter", Kind::Text),
            key("namespace", Kind::Text),
            key("partition", Kind::Text),
            key("tag_separator", Kind::Text).or(","),
            key("scheme", Kind::Text).or("http"),
            key("username", Kind::Text),
            key("password", Kind::Secret),
            key("allow_stale", Kind::Bool).always().or("true"),
            key("refresh_interval", Kind::Duration).or("30s"),
            key("services", Kind::Texts),
            key("tags", Kind::Texts),
            key("node_meta", Kind::TextMap),
            key("filter", Kind::Text),
            key("health_filter", Kind::Text),
        ],
        HTTP,
    ],
    check: check_consul,
};

static DIGITALOCEAN: Schema = Schema {
    go: "digitalocean.plain",
    parts: &[
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("port", Kind::Int).always().or("80"),
            key("role", Kind::Text).always().or("droplets"),
        ],
    ],
    check: check_digitalocean,
};

static DNS: Schema = Schema {
    go: "dns.plain",
    parts: &[&[
        key("names", Kind::Texts).always(),
        key("refresh_interval", Kind::Duration).or("30s"),
        key("type", Kind::Text).always().or("SRV"),
        key("port", Kind::Int).always(),
    ]],
    check: check_dns,
};

static DOCKER: Schema = Schema {
    go: "moby.plain",
    parts: &[
        HTTP,
        &[
            key("host", Kind::Text).always(),
            key("port", Kind::Int).always().or("80"),
            key("filters", Kind::Sections(&FILTER, "empty or null filter")).always(),
            key("host_networking_host", Kind::Text).always().or("localhost"),
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("match_first_network", Kind::Bool).always().or("true"),
        ],
    ],
    check: check_docker,
};

static DOCKERSWARM: Schema = Schema {
    go: "moby.plain",
    parts: &[
        HTTP,
        &[
            key("host", Kind::Text).always(),
            key("role", Kind::Text).always(),
            key("port", Kind::Int).always().or("80"),
            key("filters", Kind::Sections(&FILTER, "empty or null filter")).always(),
            key("refresh_interval", Kind::Duration).always().or("1m"),
        ],
    ],
    check: check_dockerswarm,
};

static EC2: Schema = Schema {
    go: "aws.plain",
    parts: &[
        &[
            key("endpoint", Kind::Text).always(),
            key("region", Kind::Text).always(),
            key("access_key", Kind::Text),
            key("secret_key", Kind::Secret),
            key("profile", Kind::Text),
            key("role_arn", Kind::Text),
            key("external_id", Kind::Text),
            key("refresh_interval", Kind::Duration).or("1m"),
            key("port", Kind::Int).always().or("80"),
            key("filters", Kind::Sections(&FILTER, "empty or null filter")).always(),
        ],
        HTTP,
    ],
    check: check_ec2,
};

static EUREKA: Schema = Schema {
    go: "eureka.plain",
    parts: &[&[key("server", Kind::Text)], HTTP, &[key("refresh_interval", Kind::Duration).or("30s")]],
    check: check_eureka,
};

static FILE: Schema = Schema {
    go: "file.plain",
    parts: &[&[key("files", Kind::Paths).always(), key("refresh_interval", Kind::Duration).or("5m")]],
    check: check_file,
};

static GCE: Schema = Schema {
    go: "gce.plain",
    parts: &[&[
        key("project", Kind::Text).always(),
        key("zone", Kind::Text).always(),
        key("filter", Kind::Text),
        key("refresh_interval", Kind::Duration).or("1m"),
        key("port", Kind::Int).always().or("80"),
        key("tag_separator", Kind::Text).or(","),
    ]],
    check: check_gce,
};

static HETZNER: Schema = Schema {
    go: "hetzner.plain",
    parts: &[
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("port", Kind::Int).always().or("80"),
            key("role", Kind::Text).always(),
            key("label_selector", Kind::Text),
        ],
    ],
    check: check_hetzner,
};

static HTTP_SD: Schema = Schema {
    go: "http.plain",
    parts: &[HTTP, &[key("refresh_interval", Kind::Duration).or("1m"), key("url", Kind::Text).always()]],
    check: check_http_sd,
};

static IONOS: Schema = Schema {
    go: "ionos.plain",
    parts: &[
        &[key("datacenter_id", Kind::Text).always()],
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("port", Kind::Int).always().or("80"),
        ],
    ],
    check: check_ionos,
};

static KUBERNETES: Schema = Schema {
    go: "kubernetes.plain",
    parts: &[
        &[
            key("api_server", Kind::Url),
            key("role", Kind::Text).always(),
            key("kubeconfig_file", Kind::Path).always(),
        ],
        HTTP,
        &[
            key("namespaces", Kind::Section(&NAMESPACES)),
            key("selectors", Kind::Sections(&SELECTOR, "empty or null selector")),
            key("attach_metadata", Kind::Section(&ATTACH_METADATA)),
        ],
    ],
    check: check_kubernetes,
};

static KUMA: Schema = Schema {
    go: "xds.plainKumaConf",
    parts: &[
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).or("15s"),
            key("fetch_timeout", Kind::Duration).or("2m"),
            key("server", Kind::Text),
            key("client_id", Kind::Text),
        ],
    ],
    check: check_kuma,
};

static LIGHTSAIL: Schema = Schema {
    go: "aws.plain",
    parts: &[
        &[
            key("endpoint", Kind::Text).always(),
            key("region", Kind::Text).always(),
            key("access_key", Kind::Text),
            key("secret_key", Kind::Secret),
            key("profile", Kind::Text),
            key("role_arn", Kind::Text),
            key("external_id", Kind::Text),
            key("refresh_interval", Kind::Duration).or("1m"),
            key("port", Kind::Int).always().or("80"),
        ],
        HTTP,
    ],
    check: check_http,
};

static LINODE: Schema = Schema {
    go: "linode.plain",
    parts: &[
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("port", Kind::Int).always().or("80"),
            key("tag_separator", Kind::Text).or(","),
            key("region", Kind::Text),
        ],
    ],
    check: check_http,
};

static MARATHON: Schema = Schema {
    go: "marathon.plain",
    parts: &[
        &[
            key("servers", Kind::Texts),
            key("refresh_interval", Kind::Duration).or("30s"),
            key("auth_token", Kind::Secret),
            key("auth_token_file", Kind::Path),
        ],
        HTTP,
    ],
    check: check_marathon,
};

static NERVE: Schema = Schema {
    go: "zookeeper.plain",
    parts: &[&[
        key("servers", Kind::Texts).always(),
        key("paths", Kind::Texts).always(),
        key("timeout", Kind::Duration).or("10s"),
    ]],
    check: check_nerve,
};

static NOMAD: Schema = Schema {
    go: "nomad.plain",
    parts: &[
        &[key("allow_stale", Kind::Bool).always().or("true")],
        HTTP,
        &[
            key("namespace", Kind::Text).always().or("default"),
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("region", Kind::Text).always().or("global"),
            key("server", Kind::Text).always().or("http://localhost:4646"),
            key("tag_separator", Kind::Text).or(","),
        ],
    ],
    check: check_nomad,
};

static OCI: Schema = Schema {
    go: "oci.plain",
    parts: &[
        &[
            key("auth", Kind::Text).or("api_key"),
            key("tenancy", Kind::Text),
            key("user", Kind::Text),
            key("fingerprint", Kind::Text),
            key("key_file", Kind::Path),
            key("key_passphrase", Kind::Secret),
            key("key_passphrase_file", Kind::Path),
            key("region", Kind::Text).always(),
            key("compartments", Kind::Texts),
        ],
        HTTP,
        &[
            key("port", Kind::Int).always().or("80"),
            key("refresh_interval", Kind::Duration).always().or("1m"),
        ],
    ],
    check: check_oci,
};

static OPENSTACK: Schema = Schema {
    go: "openstack.plain",
    parts: &[&[
        key("identity_endpoint", Kind::Text).always(),
        key("username", Kind::Text).always(),
        key("userid", Kind::Text).always(),
        key("password", Kind::Secret).always(),
        key("project_name", Kind::Text).always(),
        key("project_id", Kind::Text).always(),
        key("domain_name", Kind::Text).always(),
        key("domain_id", Kind::Text).always(),
        key("application_credential_name", Kind::Text).always(),
        key("application_credential_id", Kind::Text).always(),
        key("application_credential_secret", Kind::Secret).always(),
        key("role", Kind::Text).always(),
        key("region", Kind::Text).always(),
        key("refresh_interval", Kind::Duration).always().or("1m"),
        key("port", Kind::Int).always().or("80"),
        key("all_tenants", Kind::Bool),
        key("tls_config", Kind::Section(&TLS)),
        key("availability", Kind::Text).or("public"),
    ]],
    check: check_openstack,
};

static OUTSCALE: Schema = Schema {
    go: "outscale.plain",
    parts: &[
        &[
            key("endpoint", Kind::Text),
            key("region", Kind::Text).always().or("eu-west-2"),
            key("access_key", Kind::Text).always(),
            key("secret_key", Kind::Secret).always(),
            key("secret_key_file", Kind::Path).always(),
            key("refresh_interval", Kind::Duration).or("1m"),
            key("port", Kind::Int).always().or("80"),
        ],
        HTTP,
    ],
    check: check_outscale,
};

static OVHCLOUD: Schema = Schema {
    go: "ovhcloud.plain",
    parts: &[&[
        key("endpoint", Kind::Text).always().or("ovh-eu"),
        key("application_key", Kind::Text).always(),
        key("application_secret", Kind::Secret).always(),
        key("consumer_key", Kind::Secret).always(),
        key("refresh_interval", Kind::Duration).always().or("1m"),
        key("service", Kind::Text).always(),
    ]],
    check: check_ovhcloud,
};

static PUPPETDB: Schema = Schema {
    go: "puppetdb.plain",
    parts: &[
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).or("1m"),
            key("url", Kind::Text).always(),
            key("query", Kind::Text).always(),
            key("include_parameters", Kind::Bool).always(),
            key("port", Kind::Int).always().or("80"),
        ],
    ],
    check: check_puppetdb,
};

static SCALEWAY: Schema = Schema {
    go: "scaleway.plain",
    parts: &[
        &[
            key("project_id", Kind::Text).always(),
            key("api_url", Kind::Text).or("https://api.scaleway.com"),
            key("zone", Kind::Text).always().or("fr-par-1"),
            key("access_key", Kind::Text).always(),
            key("secret_key", Kind::Secret).always(),
            key("secret_key_file", Kind::Path).always(),
            key("name_filter", Kind::Text),
            key("tags_filter", Kind::Texts),
        ],
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("port", Kind::Int).always().or("80"),
            key("role", Kind::Text).always(),
        ],
    ],
    check: check_scaleway,
};

static SERVERSET: Schema = Schema {
    go: "zookeeper.plain",
    parts: &[&[
        key("servers", Kind::Texts).always(),
        key("paths", Kind::Texts).always(),
        key("timeout", Kind::Duration).or("10s"),
    ]],
    check: check_serverset,
};

static STACKIT: Schema = Schema {
    go: "stackit.plain",
    parts: &[
        HTTP,
        &[
            key("project", Kind::Text).always(),
            key("refresh_interval", Kind::Duration).or("1m"),
            key("port", Kind::Int).or("80"),
            key("region", Kind::Text).or("eu01"),
            key("endpoint", Kind::Text),
            key("service_account_key", Kind::Secret),
            key("private_key", Kind::Secret),
            key("service_account_key_path", Kind::Path),
            key("private_key_path", Kind::Path),
            key("credentials_file_path", Kind::Path),
        ],
    ],
    check: check_stackit,
};

static STATIC: Schema = Schema {
    go: "struct",
    parts: &[&[key("targets", Kind::Texts).always(), key("labels", Kind::TextMap)]],
    check: check_static,
};

static TRITON: Schema = Schema {
    go: "triton.plain",
    parts: &[&[
        key("account", Kind::Text).always(),
        key("role", Kind::Text).always().or("container"),
        key("dns_suffix", Kind::Text).always(),
        key("endpoint", Kind::Text).always(),
        key("groups", Kind::Texts),
        key("port", Kind::Int).always().or("9163"),
        key("refresh_interval", Kind::Duration).or("1m"),
        key("tls_config", Kind::Section(&TLS)),
        key("version", Kind::Int).always().or("1"),
    ]],
    check: check_triton,
};

static UYUNI: Schema = Schema {
    go: "uyuni.plain",
    parts: &[
        &[
            key("server", Kind::Text).always(),
            key("username", Kind::Text).always(),
            key("password", Kind::Secret).always(),
        ],
        HTTP,
        &[
            key("entitlement", Kind::Text).or("monitoring_entitled"),
            key("separator", Kind::Text).or(","),
            key("refresh_interval", Kind::Duration).or("1m"),
        ],
    ],
    check: check_uyuni,
};

static VULTR: Schema = Schema {
    go: "vultr.plain",
    parts: &[
        HTTP,
        &[
            key("refresh_interval", Kind::Duration).always().or("1m"),
            key("port", Kind::Int).always().or("80"),
        ],
    ],
    check: check_http,
};
