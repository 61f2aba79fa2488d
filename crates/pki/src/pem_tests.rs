#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::encoding::pem_section;

/// Labels and contents of what was read.
fn read(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, PemError> {
    let sections = sections(text)?;
    Ok(sections
        .into_iter()
        .map(|section| (section.label, section.der.to_vec()))
        .collect())
}

fn one(label: &str, length: usize) -> (String, (String, Vec<u8>)) {
    let der: Vec<u8> = (0..length)
        .map(|position| u8::try_from(position % 251).unwrap())
        .collect();
    (pem_section(label, &der).to_string(), (label.to_owned(), der))
}

#[test]
fn what_peoples_files_hold_around_and_inside_sections_is_read() {
    let (a, a_read) = one("CERTIFICATE", 100);
    let (b, b_read) = one("CERTIFICATE", 71);
    let both = [a_read.clone(), b_read.clone()];
    let glued = format!("{}{b}", a.trim_end());
    assert!(glued.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
    let plain = format!("{a}{b}");
    let utf8_bom = "\u{feff}";
    let long_lines = |pem: &str| {
        let lines: Vec<_> = pem.lines().collect();
        format!(
            "{}\n{}\n{}",
            lines[0],
            lines[1..lines.len() - 1].concat(),
            lines[lines.len() - 1]
        )
    };
    for (case, text) in [
        ("as it is written", plain.clone()),
        ("glued", glued),
        ("a BOM in front", format!("{utf8_bom}{plain}")),
        ("a BOM in front of each file", format!("{utf8_bom}{a}{utf8_bom}{b}")),
        ("CRLF", plain.replace('\n', "\r\n")),
        ("CR only", plain.replace('\n', "\r")),
        ("no last line end", plain.trim_end().to_owned()),
        ("spaces after each line", plain.replace('\n', "  \t\n")),
        ("indented, as in YAML", plain.replace('\n', "\n    ")),
        ("no-break spaces", plain.replace('\n', "\u{a0}\n\u{a0}")),
        ("empty lines inside", plain.replace('\n', "\n\n")),
        ("one long line each", format!("{}\n{}", long_lines(&a), long_lines(&b))),
        ("all in one line", plain.replace('\n', " ")),
        ("no padding", plain.replace('=', "")),
        (
            "comments that speak of ends and begins",
            format!(
                "End entity certificate\n{a}=== Beginning of the root certificate ===\n{b}--- End of certificate ---\n"
            ),
        ),
        (
            "a name in OpenSSL's old form",
            format!("/C=DE/ST=Example/L=Example/O=ExampleCompanyInternational/OU=Operations/CN=www\n{a}{b}"),
        ),
        ("NULs at the end", format!("{plain}\0\0\n\0")),
        ("in quotes", format!("\"{}\"\n'{}'", a.trim_end(), b.trim_end())),
        (
            "text around",
            format!("subject=CN = a\nissuer=CN = b\n{a}\nSome text: ü\n{b}\nend of file\n"),
        ),
        (
            "bag attributes",
            format!("Bag Attributes\n    localKeyID: 54 69 6D 65\n{a}Bag Attributes: <Empty Attributes>\n{b}"),
        ),
        (
            "comments",
            format!("# the leaf\n{a}# -----BEGIN CERTIFICATE-----\n# the CA\n{b}"),
        ),
        ("a comment inside", a.replacen('\n', "\n# inside\n", 1) + &b),
        ("headers", a.replacen('\n', "\nComment: mine\nX-Other: 1\n\n", 1) + &b),
        (
            "quoted",
            format!("cert: \"{}\"\nca: '{}'\n", a.trim_end(), b.trim_end()),
        ),
        (
            "spaces in the label's line",
            plain.replace("BEGIN CERTIFICATE-", "BEGIN  CERTIFICATE -"),
        ),
    ] {
        assert_eq!(read(text.as_bytes()).as_deref(), Ok(both.as_slice()), "{case}");
    }
    let latin1 = [b"# M\xfcller\nM\xfcller\n".as_slice(), plain.as_bytes()].concat();
    assert_eq!(read(&latin1).as_deref(), Ok(both.as_slice()), "text that is not UTF-8");
    let encrypted = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(sections(encrypted).unwrap()[0].is_encrypted);
    assert!(!sections(plain.as_bytes()).unwrap()[0].is_encrypted);
    let lines: Vec<_> = sections(plain.as_bytes())
        .unwrap()
        .iter()
        .map(|section| section.line)
        .collect();
    assert_eq!(lines, [1, 6]);
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn what_cannot_be_read_is_named_with_its_line() {
    let (a, _) = one("CERTIFICATE", 100);
    let (key, _) = one("PRIVATE KEY", 100);
    let without_last_line = |pem: &str| pem.lines().take(pem.lines().count() - 1).collect::<Vec<_>>().join("\n") + "\n";
    let without_first_line = |pem: &str| pem.lines().skip(1).collect::<Vec<_>>().join("\n") + "\n";
    let utf16: Vec<u8> = format!("\u{feff}{a}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let der = [&[0x30, 0x82, 1, 0][..], &[2; 256]].concat();
    let bytes = |text: &str| text.as_bytes().to_vec();
    for (case, text, says) in [
        ("nothing", bytes(""), "no PEM section"),
        ("text", bytes("hello\n"), "no PEM section"),
        ("DER", der, "openssl x509 -inform DER"),
        (
            "PKCS#12",
            b"\x30\x82\x09\x00\x02\x01\x03\x30".to_vec(),
            "openssl pkcs12",
        ),
        ("JKS", b"\xfe\xed\xfe\xed\x00\x00\x00\x02".to_vec(), "Java keystore"),
        ("UTF-16", utf16.clone(), "iconv"),
        ("UTF-16 without a BOM", utf16[2..].to_vec(), "iconv"),
        ("encoded twice", bytes(&STANDARD.encode(&a)), "encoded twice"),
        (
            "base64 alone",
            bytes("MIIBszCCAVmgAwIBAgIUQ==\n"),
            "without BEGIN and END",
        ),
        (
            "base64 alone, in lines",
            bytes(&format!("{}\n", "MIIB".repeat(16)).repeat(3)),
            "without BEGIN and END",
        ),
        (
            "cut off after the first",
            bytes(&format!("{a}{}", without_last_line(&a))),
            "line 6: the section \"CERTIFICATE\"",
        ),
        (
            "no END between two",
            bytes(&format!("{}{a}", without_last_line(&a))),
            "line 1: the section \"CERTIFICATE\"",
        ),
        (
            "no BEGIN",
            bytes(&format!("{a}{}", without_first_line(&a))),
            "line 6: base64 outside",
        ),
        (
            "no BEGIN and a short body",
            bytes(&format!("{a}AAAA\n-----END CERTIFICATE-----\n")),
            "line 7: this END line",
        ),
        (
            "neither line",
            bytes(&format!("{a}{}", without_first_line(&without_last_line(&a)))),
            "line 6: base64 outside",
        ),
        (
            "another END",
            bytes(&a.replace("END CERTIFICATE", "END PRIVATE KEY")),
            "line 5: END \"PRIVATE KEY\" closes",
        ),
        (
            "four dashes",
            bytes(&format!("{a}{}", a.replace("-----", "----"))),
            "line 6: this BEGIN or END line",
        ),
        (
            "four dashes behind",
            bytes(&a.replace("CERTIFICATE-----\n", "CERTIFICATE----\n")),
            "line 1: this BEGIN or END line",
        ),
        (
            "long dashes",
            bytes(&format!("{a}{}", a.replace("-----", "\u{2014}\u{2014}-"))),
            "line 6: this BEGIN or END",
        ),
        (
            "no dashes",
            bytes(&format!("{a}{}", a.replace("-----", ""))),
            "line 6: this BEGIN or END",
        ),
        (
            "lower case",
            bytes(&format!("{a}{}", a.to_lowercase())),
            "line 6: this BEGIN or END",
        ),
        (
            "shared dashes",
            bytes(&format!("{a}{a}").replace("-----\n-----BEGIN", "-----BEGIN")),
            "line 5: this BEGIN or END",
        ),
        (
            "not base64",
            bytes(&key.replacen("\nA", "\n*", 1)),
            "line 2: this is not base64",
        ),
        (
            "written-out line ends",
            bytes(&a.replace('\n', "\\n")),
            "line 1: line ends are written out",
        ),
        (
            "empty",
            bytes("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
            "line 1: the section \"CERTIFICATE\" that begins here is empty",
        ),
        (
            "half a digit",
            bytes("-----BEGIN CERTIFICATE-----\nAAAAA\n-----END CERTIFICATE-----\n"),
            "line 1: the base64 of",
        ),
        (
            "two bodies in one",
            bytes("-----BEGIN CERTIFICATE-----\nAA==\nAAAA\n-----END CERTIFICATE-----\n"),
            "line 3: this is not base64",
        ),
        ("too many", bytes(&a.repeat(MOST_SECTIONS + 1)), "more than 1000"),
    ] {
        let error = match read(&text) {
            Err(error) => error.to_string(),
            Ok(read) => panic!("{case} was read: {} sections", read.len()),
        };
        assert!(error.contains(says), "{case}: {error}");
    }
}

#[test]
fn no_error_shows_what_is_in_the_text() {
    let (key, _) = one("PRIVATE KEY", 100);
    let lines: Vec<_> = key.lines().collect();
    for broken in [
        key.replacen("\nAAEC", "\n*AEC", 1),
        lines[1..].join("\n"),
        lines[..3].join("\n"),
        lines.join("\\n"),
    ] {
        let error = sections(broken.as_bytes()).map(drop).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&lines[1][8..24]), "{error}");
    }
}

/// Text that may be around a section, and line endings.
fn surroundings() -> impl Strategy<Value = (String, String, String)> {
    let around = prop::sample::select(vec![
        "",
        "\n",
        "Bag Attributes\n",
        "# -----BEGIN X-----\n",
        "subject=CN=a\n",
        "\u{feff}",
        "ü\r\n",
    ]);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", " \n  "]);
    let header = prop::sample::select(vec!["", "Comment: a\n\n"]);
    (around, end, header).prop_map(|(around, end, header)| (around.to_owned(), end.to_owned(), header.to_owned()))
}

proptest! {
    #[test]
    fn every_section_of_a_file_is_accounted_for(
        parts in prop::collection::vec((
            prop::sample::select(vec!["CERTIFICATE", "PRIVATE KEY", "X509 CRL", "A B"]),
            prop::collection::vec(any::<u8>(), 1..120),
            surroundings(),
            any::<bool>(),
        ), 1..6),
    ) {
        let mut text = String::new();
        for (label, der, (around, end, header), glue) in &parts {
            // A comment has a line of its own.
            if around.starts_with('#') && !text.is_empty() {
                text.push('\n');
            }
            text.push_str(around);
            if !text.is_empty() && !text.ends_with(['\n', '\r', '\u{feff}']) && !*glue {
                text.push('\n');
            }
            let pem = pem_section(label, der).replacen('\n', &format!("\n{header}"), 1).replace('\n', end);
            text.push_str(if *glue { pem.trim_end() } else { &pem });
        }
        let wanted: Vec<_> = parts.iter().map(|(label, der, ..)| ((*label).to_owned(), der.clone())).collect();
        prop_assert_eq!(read(text.as_bytes()), Ok(wanted), "{}", text);
    }

    #[test]
    fn a_file_with_a_line_lost_or_cut_is_never_read_as_half(
        first in prop::collection::vec(any::<u8>(), 150..300),
        second in prop::collection::vec(any::<u8>(), 150..300),
        lost in 0usize..20,
        cut in 1usize..27,
    ) {
        let text = format!("{}{}", *pem_section("CERTIFICATE", &first), *pem_section("CERTIFICATE", &second));
        let count = text.lines().count();
        let lost = lost % count;
        // A BEGIN or END line that is lost or cut is named.
        let is_boundary = |line: &str| line.starts_with("-----");
        let change = |by: &dyn Fn(&str) -> Option<String>| {
            text.lines()
                .enumerate()
                .filter_map(|(number, line)| if number == lost { by(line) } else { Some(line.to_owned()) })
                .collect::<Vec<_>>()
                .join("\n")
        };
        if text.lines().nth(lost).is_some_and(is_boundary) {
            prop_assert!(read(change(&|_| None).as_bytes()).is_err());
            let short = change(&|line| Some(line[..line.len().saturating_sub(cut).max(1)].to_owned()));
            prop_assert!(read(short.as_bytes()).is_err(), "{}", short);
        }
    }

    #[test]
    fn no_bytes_make_the_pem_reader_fail_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = sections(&bytes);
        let text = [b"-----BEGIN X-----".as_slice(), &bytes, b"-----END X-----"].concat();
        let _ = sections(&text);
    }
}
