//! Tests of what the API server reads where YAML 1.2 or a careless reader would read something else.

use super::{faults, good, names, read};

const POD: &str = "spec: { containers: [{ name: c, image: i }] }\n";

fn pod(metadata: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\n{POD}")
}

#[test]
fn no_document_is_lost_at_a_lone_carriage_return() {
    let (first, second) = (pod("{ name: a }"), pod("{ name: b }"));
    let texts = [
        format!("{first}---\n{second}").replace('\n', "\r"),
        format!("{first}\r---\r{}", second.replace('\n', "\r")),
        format!("{first}# from a Mac\r---\r{second}"),
        format!("{first}---\n{second}").replace('\n', "\r\n"),
    ];
    for text in texts {
        assert_eq!(names(&good(&text)), ["default/a", "default/b"], "{text:?}");
    }
    // Positions count these lines too.
    let broken = format!("{first}---\r{}", pod("{ name: B }").replace('\n', "\r"));
    assert!(
        faults(&broken)[0].starts_with("8:19 name \"B\" must"),
        "{broken:?}"
    );
}

#[test]
fn objects_of_a_json_stream_are_all_read() {
    let object = |name: &str| {
        format!(
            "{{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{name}\"}},\n\t\"spec\": {{\"containers\": [{{\"name\": \"c\"}}]}}\n}}"
        )
    };
    let stream = format!("{}\n{}{}", object("a"), object("b"), object("c"));
    assert_eq!(
        names(&good(&stream)),
        ["default/a", "default/b", "default/c"]
    );

    let cut_off = format!("{}\n{{\"apiVersion\": \"v1\",", object("a"));
    let (manifests, problems) = read(&[("m.json", &cut_off)]);
    assert_eq!((names(&manifests).len(), problems.len()), (1, 1));
}

#[test]
fn words_that_yaml_1_1_reads_as_booleans_or_numbers_need_quotes_in_a_label() {
    for word in ["no", "Yes", "on", "OFF", "y", "010", "1_000", "1e3", "0x1f"] {
        let found = faults(&pod(&format!("{{ name: a, labels: {{ x: {word} }} }}")));
        assert!(
            found[0].contains("expected a string [quote it"),
            "{word}: {found:?}"
        );
        good(&pod(&format!("{{ name: a, labels: {{ x: '{word}' }} }}")));
    }
    // A key is always a text: that of the boolean.
    let manifests = good(&pod("{ name: a, labels: { on: '1' } }"));
    assert_eq!(manifests.pods[0].labels["true"], "1");
}

#[test]
fn numbers_are_read_with_the_prefixes_of_yaml_1_1() {
    let text = pod("{ name: a }").replace(
        "image: i",
        "ports: [{ containerPort: 010 }, { containerPort: 0x50 }, { containerPort: 8_080 }]",
    );
    let ports = good(&text).pods.remove(0).ports;
    let numbers: Vec<u16> = ports.iter().map(|port| port.port.number()).collect();
    assert_eq!(numbers, [8, 80, 8080]);
}

#[test]
fn tabs_may_indent_the_lines_of_a_flow_mapping_but_no_others() {
    for metadata in [
        "{\n\tname: a\n\t}",
        "\n  name: a\n  labels: {\n\t# first\n\ta: b,\n\tc: d\n\t}\n  annotations: {\n\te: 'f\n\tg' }",
    ] {
        assert_eq!(names(&good(&pod(metadata))), ["default/a"], "{metadata:?}");
    }
    let found = faults(&pod("\n  name: a\n\tlabels: {}"));
    assert!(found[0].starts_with("5:1 a tab cannot indent YAML"));
}

#[test]
fn a_template_is_to_be_rendered_first_wherever_it_starts() {
    let whole = pod("{ name: a }");
    let texts = [
        format!("{{{{- if .Values.enabled }}}}\n{whole}{{{{- end }}}}\n"),
        format!("{{{{/* a comment */}}}}\n{whole}"),
        format!("{{%- if enabled %}}\n{whole}{{% endif %}}\n"),
        "{{ include \"web\" . }}\n".to_owned(),
        pod("{ name: {{ .Values.name }} }"),
        pod("\n  name: {{ .Values.name }}-web"),
        pod("\n  name: web-{{ .Values.name }}"),
        pod("\n  name: \"{{ .Values.name }}\""),
        pod("\n  name: ${NAME}"),
        pod("\n  name: a\n  labels:\n    {{- toYaml .Values.labels | nindent 4 }}"),
        pod("\n  name: a\n  labels:\n    {{- range .Values.labels }}\n    a: b\n    {{- end }}"),
        format!("{whole}{{{{- with .Values.x }}}}\n"),
    ];
    for text in texts {
        let found = faults(&text);
        assert!(
            found[0].contains("rendered first") || found[0].contains("render it first"),
            "{text}\n{found:?}"
        );
    }
    // Braces in quotes, in comments and in blocks are no template.
    good(&pod(
        "\n  name: a # {{ x }}\n  annotations:\n    a: \"{{ $labels.x }}\"\n    b: |\n      {{- y }}",
    ));
    let elsewhere = faults(&pod(
        "\n  name: a\n  annotations:\n    a: '{{ x }}'\n  labels: [\n",
    ));
    assert!(!elsewhere[0].contains("render"), "{elsewhere:?}");
}

#[test]
fn a_list_without_items_is_a_problem() {
    assert_eq!(
        faults("apiVersion: v1\nkind: List\nitem: []\n"),
        ["1:1 a List needs items [\"item\" is no field of a List; did you mean items?]"]
    );
    assert!(
        good("apiVersion: v1\nkind: List\nitems: null\n")
            .pods
            .is_empty()
    );
}
