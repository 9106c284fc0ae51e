use super::*;
#[test]
fn show() {
    let lines = [
        "    - web -> api:8080",
        "    - web api:8080 allowed",
        "    - web => api:8080 allowed",
        "    - web -> api:8080 allow",
        "    - wbe -> api:8080, 8443 denied",
        "    - web -> api:8080, :8443, db:1 denied",
        "    - web:80 -> api denied",
        "    - payment -> api denied",
        "    - 1.2.3.4, runner -> api:1 denied",
        "    - * -> api denied",
        "    - *x -> api denied",
        "    - web -> api: 8080 denied",
        "    - api: 8080",
        "    - [web, api] -> db denied",
        "    - [web, api]",
        "    - web, api -> db denied\n    -",
        "    - {check: web -> db denied, taggs: [a]}",
        "    - {chek: web -> db denied}",
        "    - {check: web -> db denied, tags: pci}",
        "    - {check: web -> db denied, tags: pci, hold: 3, samples: 0, demand: A1}",
        "    - {check: web -> db denied, status: 404}",
        "    - {check: web -> db allowed, mechanism: drop}",
        "    - web -> db:53/sctp denied",
        "    - web -> db:0 denied",
        "    - web -> db:9-8 denied",
        "    - web -> ftp://db/ denied",
        "    - web -> grpc://db/ denied",
        "    - web -> tls://db/x denied",
        "    - web -> dns://db denied",
        "    - web -> https://*/x denied",
        "    - web -> post https://api/x denied",
        "    - web -> https://api/ö denied",
        "    - web -> 10.0.0.0/8 denied",
        "    - web -> 10.0.0.256:1 denied",
        "    - web -> 2001:db8::1 denied",
        "    - web -> [2001:db8::1:80 denied",
        "    - web -> shop/web denied",
        "    - web -> shop/deployment/web denied",
        "    - web -> api/udp denied",
        "    - web -> db denied\n    - web -> db denied",
        "    - web -> db denied\n    - web -> db:5432 allowed",
        "    - tiers -> db:1 denied\n    - api -> db:1 allowed",
        "    - \"* -> db:1 denied\"\n    - api -> db:1 allowed",
        "    - web -> db denied\n    - {check: web -> db denied, hold: 3s}",
        "    - web -> db denied -> api allowed",
        "    - web, -> db denied",
        "    - web -> denied",
        "    - -> web denied",
        "\t- web -> db denied",
        "    - \"web -> db\\tdenied\"\n    - web db -> api denied",
        "    - >\n      web -> api:80\n      deny",
    ];
    for text in lines {
        let yaml = with_lines(text);
        println!("=== {text}");
        let (suites, diagnostics, sources) = load_texts(&[&yaml]);
        println!("{}", diagnostics.render(&sources, false));
        for p in problems(&[&yaml]) {
            println!("{p}");
        }
    }
    let expect = "  expect: [web, api -> db denied]";
    let yaml = with_lines("").replace("  expect:\n", expect);
    for p in problems(&[&yaml]) {
        println!("{p}");
    }
    let yaml = with_lines("").replace("  expect:\n", "  expect: web -> db denied\n");
    for p in problems(&[&yaml]) {
        println!("{p}");
    }
    let yaml = with_lines("    web -> db denied");
    for p in problems(&[&yaml]) {
        println!("{p}");
    }
}
