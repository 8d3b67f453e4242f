//! Secrets that systemd passes on: they work, and are seen nowhere.

use std::path::Path;
use std::process::Command;

use coinflow_tests::servers::{KafkaOptions, PostgresOptions, Release, free_port};

use super::{CONSUMER, PRODUCER, Working, beside_others, example_commands, on_each_release, repository, symbols_file};
use crate::rig::Rig;

on_each_release!(secrets_of_kafka_and_postgresql_come_from_systemd);

const POSTGRES_PASSWORD: &str = "Pg-7f3b9c-secret";
const KAFKA_PASSWORD: &str = "Kafka-5d1e8a-secret";

/// An authority, a certificate for 127.0.0.1, and one for a client.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Certificates {
        // PostgreSQL's user has to get there.
        let folder = tempfile::Builder::new().prefix("coinflow-certificates-").tempdir_in("/tmp").expect("a folder");
        let openssl = "
            chmod 755 .
            req() { name=$1; shift; openssl req -newkey rsa:2048 -nodes -days 2 -x509 -keyout $name.key -out $name.crt \"$@\"; }
            req ca -subj /CN=authority
            req server -subj /CN=server -CA ca.crt -CAkey ca.key -addext subjectAltName=IP:127.0.0.1
            req client -subj /CN=client -CA ca.crt -CAkey ca.key
            cat server.key server.crt >broker.pem
            chown postgres server.key";
        let made = Command::new("sh").args(["-euc", openssl]).current_dir(folder.path()).output().expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Certificates { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("a certificate or key")
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Kafka asks for a certificate and a password over TLS, PostgreSQL for a password over TLS.
fn guarded(certificates: &Certificates, port: u16) -> Rig {
    let kafka = KafkaOptions {
        listeners: vec![format!("SASL_SSL://127.0.0.1:{port}")],
        properties: pairs(&[
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", &certificates.path("broker.pem")),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &certificates.path("ca.crt")),
            ("listener.name.sasl_ssl.ssl.client.auth", "required"),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            (
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
        ]),
        ..KafkaOptions::default()
    };
    let hba = Path::new(&certificates.path("pg_hba.conf")).to_owned();
    std::fs::write(&hba, "local all all trust\nhostssl all coinflow 127.0.0.1/32 scram-sha-256\n").expect("a file");
    let postgres = PostgresOptions {
        settings: pairs(&[
            ("hba_file", &hba.display().to_string()),
            ("ssl", "on"),
            ("ssl_cert_file", &certificates.path("server.crt")),
            ("ssl_key_file", &certificates.path("server.key")),
        ]),
        ..PostgresOptions::default()
    };
    let rig = Rig::with(&kafka, &postgres);
    let add = format!("SCRAM-SHA-512=[password={KAFKA_PASSWORD}]");
    let user = ["--alter", "--add-config", &add, "--entity-type", "users", "--entity-name", "coinflow"];
    rig.kafka.tool("kafka.admin.ConfigCommand", &user).expect("a user of Kafka");
    let mut admin = rig.postgres.connect_as("postgres", "postgres").expect("a connection");
    admin.batch_execute(&format!("ALTER ROLE coinflow PASSWORD '{POSTGRES_PASSWORD}'")).expect("a password");
    rig
}

fn secrets_of_kafka_and_postgresql_come_from_systemd(release: Release) {
    let _turn = beside_others();
    let certificates = Certificates::new();
    let port = free_port().expect("a port");
    let working = Working::with(release, guarded(&certificates, port));
    working.put("/etc/coinflow/ca.pem", &certificates.text("ca.crt"));
    working.put("/etc/coinflow/kafka-client.pem", &certificates.text("client.crt"));
    working
        .machine
        .put("/etc/coinflow/kafka-key.pem", certificates.text("client.key").as_bytes(), 0o600)
        .expect("a key");
    let librdkafka = r#"librdkafka = { "security.protocol" = "sasl_ssl", "sasl.mechanism" = "SCRAM-SHA-512", "sasl.username" = "coinflow", "sasl.password" = { credential = "kafka-password" }, "ssl.ca.location" = "/etc/coinflow/ca.pem", "ssl.certificate.location" = "/etc/coinflow/kafka-client.pem", "ssl.key.pem" = { credential = "kafka-key" } }"#;
    let brokers = format!("brokers = [\"127.0.0.1:{port}\"]\n{librdkafka}");
    working.put(
        "/etc/coinflow/producerd.toml",
        &format!(
            "[kafka]\n{brokers}\n[exchange.bithumb]\nbase_url = \"{}\"\n[log]\nlevel = \"trace\"\n",
            working.rig.exchange.base_url()
        ),
    );
    let connection = working.rig.postgres.connection_tcp();
    working.put(
        "/etc/coinflow/consumerd.toml",
        &format!(
            "[postgres]\nconnection = \"{connection}\"\nca_file = \"/etc/coinflow/ca.pem\"\n[source.main]\n{brokers}\n[log]\nlevel = \"trace\"\n"
        ),
    );
    working.put("/etc/coinflow/symbols.toml", &symbols_file("200ms", &["BTC"]));

    // As the shipped examples say, with their commented-out lines.
    for (package, name, password) in
        [(PRODUCER, "producerd", KAFKA_PASSWORD), (CONSUMER, "consumerd", POSTGRES_PASSWORD)]
    {
        let example = format!("systemd/{name}-credentials.conf");
        working.ok(&format!("sed -i 's/^#LoadCredential/LoadCredential/' /usr/share/doc/{package}/examples/{example}"));
        working
            .ok(&format!("printf '%s\\n' {KAFKA_PASSWORD} | install -m 600 /dev/stdin /etc/coinflow/kafka-password"));
        let commands = example_commands(package, &example);
        let finished = working.machine.run_with(&commands, format!("{password}\n").as_bytes()).expect("it ends");
        assert!(finished.status.success(), "{finished:?}");
    }
    working.wait_rows(20);
    // A command is given them as the README says.
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("the README");
    let begin = readme.find("systemd-run --quiet").expect("the command");
    let command = readme[begin..].split("```").next().expect("its end");
    let verified = working.ok(&command.replace(
        "-p LoadCredential=kafka-password",
        "-p LoadCredential=kafka-key:/etc/coinflow/kafka-key.pem -p LoadCredential=kafka-password",
    ));
    assert!(verified.contains("equal, books="), "{verified}");
    // Neither the check nor the signal needs them.
    working.watch("200ms", &["BTC", "ETH"]);
    working.wait_rows(20);

    // A wrong password is told without it.
    working.ok("printf 'Pg-wrong-secret' >/etc/coinflow/postgres-password; printf 'Kafka-wrong-secret' >/etc/coinflow/kafka-password");
    working.ok(&format!("systemctl restart {PRODUCER} {CONSUMER}"));
    working.wait_journal(&format!("-u {CONSUMER} -p warning"), "password authentication failed");
    working.wait_journal(&format!("-u {PRODUCER} -p warning"), "uthentication failed");
    working.wait_property(CONSUMER, "StatusText", |status| status.contains("password authentication failed"));
    working.wait_property(PRODUCER, "StatusText", |status| status.to_lowercase().contains("authentication failed"));

    // The right ones again: a credential is read when the unit starts.
    working.ok(&format!(
        "printf {POSTGRES_PASSWORD} >/etc/coinflow/postgres-password; printf {KAFKA_PASSWORD} >/etc/coinflow/kafka-password; \
         systemctl restart {PRODUCER} {CONSUMER}"
    ));
    working.wait_rows(20);

    let everywhere = "journalctl --no-pager --output=export; systemctl show coinflow-producerd coinflow-consumerd; \
         systemctl status coinflow-producerd coinflow-consumerd; cat /proc/[0-9]*/cmdline; \
         for p in $(pidof producerd consumerd); do cat /proc/$p/environ; done";
    let seen = working.machine.run(everywhere).expect("it ends").stdout;
    assert!(seen.contains("coinflow-consumerd"), "something was looked at");
    let key = certificates.text("client.key");
    for secret in
        [POSTGRES_PASSWORD, KAFKA_PASSWORD, "Pg-wrong-secret", "Kafka-wrong-secret", key.lines().nth(3).expect("a key")]
    {
        let place = seen.find(secret).map(|at| &seen[at.saturating_sub(300)..at]);
        assert_eq!(place, None, "{secret}");
    }
}
