//! Each kind of mistake: its message, its place, its help.

use super::*;

/// One line of `expect`, and what is said about it: column, message, help.
#[test]
fn mistakes_in_a_line() {
    const END: &str = "the line must end with allowed or denied";
    const SOURCE: &str =
        "hosts and addresses are targets only; write runner for connections from outside";
    const FORM: &str =
        "write SOURCES -> TARGETS allowed|denied, for example: web -> api:8080 allowed";
    const COMMAS: &str =
        "write SOURCES -> TARGETS allowed|denied, with a name on both sides of every comma";
    const STAR: &str = "YAML takes a bare * for an alias; put the whole line in quotes: - \"* -> metadata denied\"";
    const PORT: &str = "write a number from 1 to 65535, or the name of a port in lower case";
    const OBJECT: &str = "write NAMESPACE/KIND/NAME, for example shop/Deployment/web";
    let cases = [
        // The arrow and the verdict.
        ("web api:1 allowed", 7, "the line has no arrow", FORM),
        (
            "web => api:1 allowed",
            11,
            "\"=>\" is not the arrow",
            "write ->",
        ),
        (
            "web > api:1 allowed",
            11,
            "\">\" is not the arrow",
            "write ->",
        ),
        (
            "web -> api:1 -> db:1 denied",
            14,
            "the line has two arrows",
            "write two lines",
        ),
        (
            "web -> api:1",
            14,
            END,
            "add it at the end: -> api:1 allowed, or denied",
        ),
        ("web -> api:1 allow", 20, END, "did you mean allowed?"),
        ("web -> api:1 Denied", 20, END, "did you mean denied?"),
        ("web -> api:1 blocked", 20, END, "did you mean denied?"),
        ("web ->", 11, "nothing follows the arrow", FORM),
        ("web -> denied", 14, "a target is missing", COMMAS),
        ("'-> web denied'", 8, "a source is missing", COMMAS),
        ("web, -> db denied", 12, "a source is missing", COMMAS),
        ("web -> db,,api denied", 17, "a target is missing", COMMAS),
        (
            "web api -> db denied",
            7,
            "\"web api\" is more than one name",
            "put a comma between names: web, api",
        ),
        (
            "web -> api db denied",
            14,
            "\"api db\" is more than one name",
            "put a comma between names: api, db",
        ),
        // Ports.
        (
            "web -> api:8080, 8443 denied",
            24,
            "\"8443\" is a port without a name",
            "every target is named: write api:8080, api:8443",
        ),
        (
            "web -> api:8080, :8443 denied",
            24,
            "\":8443\" is a port without a name",
            "every target is named: write api:8080, api:8443",
        ),
        (
            "web -> api, 53/udp denied",
            19,
            "\"53/udp\" is a port without a name",
            "every target is named: write api, api:53/udp",
        ),
        (
            "web -> 8443 denied",
            14,
            "\"8443\" is a port without a name",
            "name the target: api:8443",
        ),
        (
            "web:80 -> api denied",
            11,
            "a source has no port",
            "write web; the port belongs to the target",
        ),
        (
            "web -> db:0 denied",
            17,
            "\"0\" is not a port: a number from 1 to 65535",
            "",
        ),
        (
            "web -> db:65536 denied",
            17,
            "\"65536\" is not a port: a number from 1 to 65535",
            "",
        ),
        (
            "web -> db:080 denied",
            17,
            "\"080\" is not a port: a number from 1 to 65535",
            "",
        ),
        (
            "web -> db:9-8 denied",
            17,
            "the range 9-8 is empty",
            "write 8-9",
        ),
        ("web -> db:8- denied", 17, "\"8-\" is not a port", PORT),
        ("web -> db:HTTP denied", 17, "\"HTTP\" is not a port", PORT),
        (
            "web -> db:53/sctp denied",
            17,
            "SCTP cannot be probed yet",
            "leave this port out",
        ),
        (
            "web -> db:53/ucp denied",
            17,
            "\"ucp\" is not a transport",
            "did you mean tcp?",
        ),
        (
            "web -> api/udp denied",
            14,
            "\"api/udp\" names a transport without a port",
            "write api:*/udp or api:*/tcp for all its known ports",
        ),
        // Names.
        (
            "wbe -> db denied",
            7,
            "no endpoint or group is called \"wbe\"",
            "did you mean web?",
        ),
        (
            "web -> tier denied",
            14,
            "no endpoint or group is called \"tier\"",
            "did you mean tiers?",
        ),
        (
            "runer -> db denied",
            7,
            "no endpoint or group is called \"runer\"",
            "did you mean runner?",
        ),
        (
            "Web -> db denied",
            7,
            "no endpoint or group is called \"Web\"",
            "did you mean web?",
        ),
        (
            "frontend -> db denied",
            7,
            "no endpoint or group is called \"frontend\"",
            "known are api, db, payment, tiers, web, runner, nodes, apiserver, kubelet, instance-metadata and 1 more",
        ),
        (
            "web -> https://paiment/x denied",
            22,
            "no endpoint or group is called \"paiment\"",
            "did you mean payment?",
        ),
        (
            "allowed -> db denied",
            7,
            "no endpoint or group is called \"allowed\"",
            "known are api, db, payment, tiers, web, runner, nodes, apiserver, kubelet, instance-metadata and 1 more",
        ),
        (
            "payment -> db denied",
            7,
            "payment is outside the cluster and cannot be a source",
            SOURCE,
        ),
        (
            "10.0.0.1 -> db denied",
            7,
            "10.0.0.1 is outside the cluster and cannot be a source",
            SOURCE,
        ),
        (
            "a.example -> db denied",
            7,
            "a.example is outside the cluster and cannot be a source",
            SOURCE,
        ),
        (
            "https://web -> db denied",
            7,
            "a URL cannot be a source",
            "name who sends: an endpoint, a group, runner, nodes or *",
        ),
        (
            "web -> shop/web denied",
            14,
            "\"shop/web\" is not NAMESPACE/KIND/NAME",
            "write for example shop/Deployment/web",
        ),
        (
            "web -> shop/deployment/web denied",
            14,
            "\"deployment\" is not a kind that has pods",
            "did you mean Deployment?",
        ),
        (
            "web -> Shop/Deployment/web denied",
            14,
            "\"Shop\" cannot be a namespace",
            OBJECT,
        ),
        (
            "web -> shop/Deployment/Web denied",
            14,
            "\"Web\" cannot be the name of an object",
            OBJECT,
        ),
        (
            "web -> 10.0.0.0/8 denied",
            14,
            "\"10.0.0.0/8\" is a range of addresses",
            "a range cannot be tested: name one address of it",
        ),
        (
            "web -> 127.0.0.1:80 denied",
            14,
            "127.0.0.1 is a loopback address, which every source has for itself",
            "name the workload itself, or the address that others reach it by",
        ),
        (
            "web -> http://0.0.0.0:80/ denied",
            21,
            "0.0.0.0 is no host's address: it means \"this host\"",
            "name the address of one host, such as 203.0.113.66",
        ),
        (
            "web -> [::ffff:10.0.0.1]:80 denied",
            14,
            "::ffff:10.0.0.1 spells the IPv4 address 10.0.0.1 as IPv6",
            "write 10.0.0.1",
        ),
        (
            "web -> dns://[ff02::1]/payments.example denied",
            20,
            "ff02::1 is a multicast address, which no connection goes to",
            "name the address of one host, such as 203.0.113.66",
        ),
        (
            "web -> 10.0.0.256:1 denied",
            14,
            "\"10.0.0.256\" is not an IPv4 address",
            "four numbers from 0 to 255: 203.0.113.66",
        ),
        (
            "web -> 2001:db8::1 denied",
            14,
            "\"2001:db8::1\" has more than one colon",
            "write an IPv6 address in brackets: [2001:db8::1]",
        ),
        (
            "web -> [2001:db8::1:80 denied",
            14,
            "the bracket is never closed",
            "write [2001:db8::1]:443",
        ),
        (
            "web -> [2001:db8::1]80 denied",
            27,
            "\"80\" cannot follow an address",
            "write [2001:db8::1]:443",
        ),
        (
            "web -> [10.0.0.1]:80 denied",
            14,
            "\"10.0.0.1\" is not an IPv6 address",
            "brackets are for IPv6 addresses alone: [2001:db8::1]",
        ),
        // URLs.
        (
            "web -> ftp://db/ denied",
            14,
            "\"ftp\" is not a scheme",
            "the schemes are http, https, tls and dns",
        ),
        (
            "web -> tcp://db:1 denied",
            14,
            "tcp is not a scheme",
            "write NAME:PORT/tcp",
        ),
        (
            "web -> grpc://db denied",
            14,
            "grpc cannot be tested yet",
            "test its port: NAME:PORT",
        ),
        (
            "web -> https:///x denied",
            14,
            "the URL names no target",
            "write https://NAME/PATH",
        ),
        (
            "web -> https://*/x denied",
            22,
            "a URL needs one name, not *",
            "name an endpoint, a group, a host or an address",
        ),
        (
            "web -> https://u:p@api/x denied",
            22,
            "a URL cannot contain a user",
            "send credentials as a header, in the long form",
        ),
        (
            "web -> https://api/x#y denied",
            25,
            "a URL's fragment is never sent",
            "remove # and what follows it",
        ),
        (
            "web -> https://api/ö denied",
            25,
            "the path holds characters that a URL cannot have",
            "write them percent-encoded: ö is %C3%B6",
        ),
        (
            "web -> post https://api/x denied",
            14,
            "\"post\" is not an HTTP method",
            "write the method in capitals before the URL: POST https://api/x",
        ),
        (
            "web -> https://api/x y denied",
            14,
            "\"https://api/x y\" is more than one URL",
            "put a comma between targets, and write a blank in a URL as %20",
        ),
        (
            "web -> GET tls://api denied",
            14,
            "tls has no method",
            "remove GET",
        ),
        (
            "web -> tls://api/x denied",
            23,
            "a TLS handshake has no path",
            "remove the path, or write https://",
        ),
        (
            "web -> dns://api denied",
            22,
            "a DNS query needs a name",
            "write dns://SERVER/NAME, for example dns://10.96.0.10/payments.example",
        ),
        (
            "web -> dns://api/a/b denied",
            23,
            "a DNS query asks for one name",
            "write dns://SERVER/NAME; the record type is set by record: in the long form",
        ),
        (
            "{check: web -> POST https://api/x denied, method: PUT}",
            22,
            "the line says POST, and the setting method says PUT",
            "write the method once",
        ),
        // What YAML makes of it.
        (
            "* -> db denied",
            7,
            "a text cannot start with * outside quotes",
            STAR,
        ),
        ("*db -> db denied", 7, "no anchor is called \"db\"", STAR),
        (
            "web -> api: 8080 denied",
            7,
            "this is a mapping, not a line",
            "YAML reads 'name: value' as a key and its value; write the port without a blank: web -> api:8080 denied",
        ),
        (
            "api: 8080",
            7,
            "this is a mapping, not a line",
            "YAML reads 'name: value' as a key and its value; write the port without a blank: api:8080",
        ),
        (
            "[web, api]",
            7,
            "a line cannot be a list",
            "write the names with commas and no brackets, and quotes around the line: \"web, api -> ...\"",
        ),
        (
            "[web, api] -> db denied",
            18,
            "text follows a closing bracket",
            "YAML takes what starts with [ or { for a list or mapping: write names with commas and without brackets (web, api -> db denied), or put the whole text in quotes",
        ),
        (
            "{web -> api}",
            7,
            "\"web -> api\" is not a line",
            "a line is one text, \"web -> api:8080 allowed\", or a mapping with the key check",
        ),
        (
            "",
            7,
            "the line is empty",
            "write a line: web -> api:8080 allowed",
        ),
        (
            "''",
            7,
            "the line is empty",
            "write a line: web -> api:8080 allowed",
        ),
    ];
    for (text, column, message, help) in cases {
        let help = if help.is_empty() {
            String::new()
        } else {
            format!("; help: {help}")
        };
        let found = problems(&[&with_lines(&format!("    - {text}"))]);
        assert_eq!(
            found,
            [format!(
                "a.yaml:{FIRST_LINE}:{column}: error: {message}{help}"
            )],
            "{text}"
        );
    }
}

/// A long form, and the start of what is said about it.
#[test]
fn mistakes_in_a_long_form() {
    let cases = [
        (
            "taggs: [a]",
            "error: a line's long form has no key \"taggs\"; help: did you mean tags? the keys of a line's long form are check, id, because, tags, established, settle",
        ),
        (
            "tags: pci, because: x",
            "error: tags must be a list, not a text; help: write a list: tags: [pci]",
        ),
        (
            "tags: []",
            "error: tags is an empty list; help: list something, or leave tags out",
        ),
        (
            "tags: [a b]",
            "error: tags: \"a b\" is not a tag: a word without blanks and commas; help: write several tags as a list: [pci, audit]",
        ),
        (
            "because:",
            "error: because must be a text, not nothing; help: for example because: cards are stored here",
        ),
        ("because: ''", "error: because: the text is empty"),
        (
            "because: [x]",
            "error: because must be a text, not a list; help: for example because: cards are stored here",
        ),
        ("id: two words", "error: id: \"two words\" is not an id"),
        (
            "hold: 3",
            "error: hold: \"3\" is not a duration; write a number and a unit: 300ms, 1.5s, 2m, 1h",
        ),
        ("hold: 25h", "error: hold: \"25h\" is longer than 24h"),
        (
            "attempts: 0",
            "error: attempts: \"0\" is not a whole number from 1 to 100000",
        ),
        (
            "attempts: 6.0",
            "error: attempts: \"6.0\" is not a whole number from 1 to 100000",
        ),
        (
            "tier: D3",
            "error: tier: \"D3\" is not one of D1, D2, D2+same-node, D2+counter, A0, A1, A2, A3; help: did you mean D1?",
        ),
        (
            "tier: A1",
            "error: A1 has no effect on this line; help: it needs a line that ends with allowed",
        ),
        (
            "startup: isolate",
            "error: startup: \"isolate\" is not one of isolated; help: did you mean isolated?",
        ),
        (
            "mechanism: RST",
            "error: mechanism: \"RST\" is not one of drop, reset, icmp, signature; help: write one of drop, reset, icmp, signature",
        ),
        (
            "control: tiers",
            "error: tiers is more than one endpoint; help: name one endpoint that is known to reach the target, or runner",
        ),
        (
            "control: payment",
            "error: payment is outside the cluster and cannot be a control",
        ),
        (
            "control: wbe",
            "error: no endpoint or group is called \"wbe\"; help: did you mean web?",
        ),
        ("control: web:80", "error: a source has no port"),
        (
            "method: POST",
            "error: method has no effect on this line; help: it needs an http or https target: remove it, or change the line",
        ),
        (
            "status: 404",
            "error: status says what an allowed line is answered; help: say how the enforcer refuses a denied one: refusal: { status: 403 }",
        ),
        (
            "refusal: {status: 403}",
            "error: refusal has no effect on this line; help: it needs an http or https target",
        ),
        (
            "refusal: {}",
            "error: refusal describes no answer; help: say how the enforcer answers: refusal: { status: 403 }",
        ),
        (
            "refusal: {body: \"(\"}",
            "error: body: \"(\" is not a regular expression:",
        ),
        (
            "refusal: {status: [403, 1]}",
            "error: status: \"1\" is not a whole number from 100 to 599",
        ),
        (
            "headers: {A: {fromEnv: WATERTIGHT_TEST_UNSET}}",
            "error: the environment has no variable WATERTIGHT_TEST_UNSET; help: set the variable where watertight runs",
        ),
        (
            "body: {fromEnv: a-b}",
            "error: fromEnv: \"a-b\" is not the name of a variable",
        ),
        (
            "body: {env: A}",
            "error: a text from the environment has no key \"env\"",
        ),
        (
            "record: A",
            "error: record has no effect on this line; help: it needs a dns target",
        ),
        ("record: Q", "error: record: \"Q\" is not one of A, AAAA,"),
        (
            "send: 0x1",
            "error: send: a payload after 0x needs two hexadecimal digits a byte",
        ),
        ("send: 0xzz", "error: send: 'z' is not a hexadecimal digit"),
        (
            "headers: [a]",
            "error: headers must be a mapping, not a list; help: for example headers: { X-Request-Id: probe }",
        ),
        (
            "headers: {a b: c}",
            "error: headers: \"a b\" cannot be the name of a header",
        ),
        (
            "headers: {a: \"x\\ny\"}",
            "error: a: a header's value cannot hold line breaks or control characters",
        ),
        (
            "serverName: 10.0.0.1",
            "error: serverName: \"10.0.0.1\" is not a server name; help: write a host name; addresses are never sent as one",
        ),
        (
            "spread: all",
            "error: spread: \"all\" is not one of one, nodes, replicas; help: write one of one, nodes, replicas",
        ),
        (
            "repeat: yes",
            "error: repeat: \"yes\" is neither true nor false",
        ),
        (
            "hold: {a: b}",
            "error: hold must be a duration, not a mapping; help: for example hold: 3s",
        ),
    ];
    for (extra, expected) in cases {
        let found = problems(&[&with_lines(&format!(
            "    - {{ check: web -> payment:1 denied, {extra} }}"
        ))]);
        assert!(
            found
                .iter()
                .any(|line| line.contains(&format!(": {expected}"))),
            "{extra}\n{found:#?}"
        );
        assert!(
            found.iter().all(|line| line.starts_with("a.yaml:14:")),
            "{found:#?}"
        );
    }
    let allowed = problems(&[&with_lines(
        "    - { check: web -> payment:1 allowed, mechanism: drop, startup: isolated, tier: D2 }",
    )]);
    assert_eq!(allowed.len(), 3, "{allowed:#?}");
    let allowed = problems(&[&with_lines(
        "    - { check: \"web -> http://payment/ allowed\", refusal: {status: 403} }",
    )]);
    assert!(
        allowed.len() == 1
            && allowed[0].contains(
                "refusal says how a denied line is refused; help: say what an allowed line is answered: status: 200"
            ),
        "{allowed:#?}"
    );
    let without = problems(&[&with_lines("    - { chek: web -> payment:1 denied }")]);
    assert!(
        without.len() == 1 && without[0].contains("has no key \"chek\"; help: did you mean check?"),
        "{without:#?}"
    );
    let without = problems(&[&with_lines("    - { id: a }")]);
    assert_eq!(
        without,
        [
            "a.yaml:14:9: error: a line's long form needs the key check; help: write check: web -> api:8080 allowed"
        ]
    );
}

#[test]
fn mistakes_around_the_lines() {
    let good_line = "    - web -> payment:1 denied";
    let cases = [
        (
            "apiVersion: watertight.dev/v1",
            "apiVersion: watertight.dev/v2",
            "1:13: error: apiVersion: \"watertight.dev/v2\" is not \"watertight.dev/v1\"; help: write watertight.dev/v1",
        ),
        (
            "apiVersion: watertight.dev/v1\n",
            "",
            "error: a suite needs the key apiVersion; help: write apiVersion: watertight.dev/v1",
        ),
        (
            "kind: Suite",
            "kind: suite",
            "2:7: error: kind: \"suite\" is not \"Suite\"; help: write Suite",
        ),
        (
            "kind: Suite\n",
            "",
            "error: a suite needs the key kind; help: write kind: Suite",
        ),
        (
            "{ name: shop }",
            "{}",
            "3:1: error: metadata needs the key name; help: write name: shop",
        ),
        (
            "{ name: shop }",
            "{ name: My Shop }",
            "3:19: error: name: \"My Shop\" is not a name: 1 to 63 of a-z",
        ),
        (
            "{ name: shop }",
            "{ name: shop, labels: {} }",
            "3:25: error: metadata has no key \"labels\"; help: the keys of metadata are name",
        ),
        (
            "metadata: { name: shop }\n",
            "",
            "error: a suite needs the key metadata; help: write metadata: { name: shop }",
        ),
        (
            "spec:",
            "sepc:",
            "4:1: error: a suite has no key \"sepc\"; help: did you mean spec? the keys of a suite are apiVersion, kind, metadata, spec",
        ),
        (
            "  everythingElse: denied",
            "  everythingElse: allowed",
            "12:19: error: everythingElse: \"allowed\" is not one of denied; help: write one of denied",
        ),
        (
            "  everythingElse: denied",
            "  everythingelse: denied",
            "12:3: error: spec has no key \"everythingelse\"; help: did you mean everythingElse?",
        ),
        (
            "  everythingElse: denied",
            "  hold: 3s",
            "12:3: error: spec has no key \"hold\"; help: hold belongs under spec.settings or a line's long form",
        ),
        (
            "spec:",
            "groups: {}\nspec:",
            "4:1: error: a suite has no key \"groups\"; help: groups belongs under spec; the keys of a suite are",
        ),
        (
            "  everythingElse: denied",
            "  settings: [hold, 3s]",
            "12:13: error: settings must be a mapping, not a list; help: for example settings: { hold: 3s }",
        ),
        (
            "  everythingElse: denied",
            "  settings: { tags: [a] }",
            "12:15: error: settings has no key \"tags\"",
        ),
        (
            "  expect:\n    - web -> payment:1 denied",
            "  expect:",
            "13:3: error: expect must be a list, not nothing; help: for example expect: [web -> api:8080 allowed]",
        ),
        (
            "  expect:\n    - web -> payment:1 denied",
            "  expect: []",
            "13:11: error: expect is an empty list",
        ),
        (
            "    - web -> payment:1 denied",
            "    web -> payment:1 denied",
            "14:5: error: expect must be a list, not a text; help: every line is a list item: start it with '- ' on a line of its own",
        ),
        (
            "    - web -> payment:1 denied",
            "    [web, api -> payment:1 denied]",
            "14:6: error: the line has no arrow; help: inside [ ] a comma ends a text: put every line in quotes",
        ),
        (
            "    - web -> payment:1 denied",
            "\t- web -> payment:1 denied",
            "14:1: error: a tab cannot indent YAML; help: replace the tab by spaces",
        ),
        (
            "    - web -> payment:1 denied",
            "    - web -> payment:1 denied\n\t- web -> payment:2 denied",
            "15:1: error: a tab cannot indent YAML; help: replace the tab by spaces",
        ),
    ];
    for (from, to, expected) in cases {
        let yaml = with_lines(good_line);
        assert!(yaml.contains(from), "{from}");
        let found = problems(&[&yaml.replacen(from, to, 1)]);
        assert_eq!(found.len(), 1, "{to}\n{found:#?}");
        assert!(found[0].contains(expected), "{to}\n{found:#?}");
    }
}

#[test]
fn documents_of_another_kind_are_errors() {
    let cases = [
        (
            "apiVersion: apps/v1\nkind: Deployment\n",
            "a.yaml:2:7: error: this document is a Deployment, not a Suite; help: name only suites here; manifests follow --lab",
        ),
        (
            "a: b\n",
            "a.yaml:1:1: error: this document is not a suite; help: start it with apiVersion: watertight.dev/v1 and kind: Suite",
        ),
        (
            "- a\n",
            "a.yaml:1:1: error: a suite is a mapping, not a list; help: start with apiVersion",
        ),
        (
            "web -> api denied\n",
            "a.yaml:1:1: error: a suite is a mapping, not a text",
        ),
        (
            "",
            "a.yaml: error: a.yaml holds no suite; help: a suite starts with apiVersion: watertight.dev/v1 and kind: Suite",
        ),
        (
            "# nothing\n---\n",
            "a.yaml:1:1: error: a.yaml holds no suite",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&[text]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{found:#?}");
    }
}

#[test]
fn a_suite_that_expects_nothing_is_an_error() {
    let yaml = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: a}\nspec:\n  endpoints: {a: {host: a.b}}\n";
    assert_eq!(
        problems(&[yaml]),
        [
            "a.yaml:4:1: error: the suite expects nothing; help: add expect with at least one line, or everythingElse: denied"
        ]
    );
}

#[test]
fn all_problems_of_all_files_are_shown_at_once_and_in_order() {
    let first = format!(
        "{}---\na: [\n---\nkind: Service\n",
        with_lines("    - wbe -> api:8080, 8443 denied\n    - web -> api: 80 denied\n    - web -> db denied\n    - web -> db:5432 allowed\n    - {check: web -> db:1, hold: 3, tag: [a]}")
            .replace("payments.example", "payments")
    );
    let second = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: a}\nspec:\n  expect:\n  - runner -> db denied\n  expect: []\n---\napiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: b}\nspec:\n  expect:\n  - runner -> db denied\n";
    let found: Vec<String> = problems(&[&first, second])
        .iter()
        .map(|line| line.split("; help").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        found,
        [
            "a.yaml:9:22: error: host: \"payments\" is not a host name (RFC 1123: labels of letters, digits and '-', at most 253 characters)",
            "a.yaml:14:7: error: no endpoint or group is called \"wbe\"",
            "a.yaml:14:24: error: \"8443\" is a port without a name",
            "a.yaml:15:7: error: this is a mapping, not a line",
            "a.yaml:17:7: error: web -> db:5432 is both allowed and denied; denied here (a.yaml:16:7)",
            "a.yaml:18:22: error: the line must end with allowed or denied",
            "a.yaml:18:34: error: hold: \"3\" is not a duration; write a number and a unit: 300ms, 1.5s, 2m, 1h",
            "a.yaml:18:37: error: a line's long form has no key \"tag\"",
            "a.yaml:20:4: error: the bracket '[' is never closed",
            "a.yaml:22:7: error: this document is a Service, not a Suite",
            "b.yaml:7:3: error: the key \"expect\" appears twice; first here (b.yaml:5:3)",
            "b.yaml:14:15: error: no endpoint or group is called \"db\"",
        ]
    );
}

#[test]
fn a_host_without_any_known_port_is_an_error() {
    let known = |lines: &str| {
        problems(&[
            &with_lines(lines).replace("    tiers:", "    partners: [payment, db]\n    tiers:")
        ])
    };
    let message = "error: no port of payment is known: no line names one; help: write payment:PORT, or give it ports: under endpoints";
    assert_eq!(
        known("    - web -> payment denied"),
        [format!("a.yaml:15:7: {message}")]
    );
    assert_eq!(
        known("    - web -> payment:1-9 denied\n    - web -> partners:*/tcp denied"),
        [format!("a.yaml:16:7: {message}")]
    );
    for other in ["payment:1", "partners:1", "https://payment/x"] {
        assert_eq!(
            known(&format!(
                "    - web -> payment denied\n    - api -> {other} denied"
            )),
            Vec::<String>::new()
        );
    }
    assert_eq!(
        known("    - web -> payment:1-9 denied"),
        Vec::<String>::new()
    );
    let mut sources = Sources::new();
    let diagnostics = load_line("runner -> a.example denied", &mut sources).expect_err("no port");
    assert!(
        diagnostics
            .render_compact(&sources)
            .contains("no port of a.example is known")
    );
}

#[test]
fn a_diagnostic_is_a_picture_with_its_help() {
    let (_, diagnostics, sources) =
        load_texts(&[&with_lines("    - web -> api:8080, 8443 denied")]);
    let expected = "\
error: \"8443\" is a port without a name
  --> a.yaml:14:24
   |
14 |     - web -> api:8080, 8443 denied
   |                        ^^^^
   |
   = help: every target is named: write api:8080, api:8443

";
    assert_eq!(diagnostics.render(&sources, false), expected);
}
