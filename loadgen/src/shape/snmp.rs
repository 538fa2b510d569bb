//! Network devices as snmp_exporter shows them: 48 interfaces a device, each with the columns of `ifTable` and
//! `ifXTable`, joined by name and alias.

use super::fleet::{OWNER, Template};
use super::mix;
use super::value::Value;

pub const INTERFACES: u32 = 48;

fn interface(i: u32) -> String {
    format!(
        r#"ifAlias="uplink-{OWNER}-{i:02}",ifDescr="TenGigE0/0/0/{i}",ifIndex="{}",ifName="Te0/0/0/{i}""#,
        i + 1
    )
}

/// Columns: name, growth a second, 0 for one that stays.
const COLUMNS: [(&str, f64); 26] = [
    ("ifHCInOctets", 90_000_000.0),
    ("ifHCOutOctets", 60_000_000.0),
    ("ifHCInUcastPkts", 80_000.0),
    ("ifHCOutUcastPkts", 70_000.0),
    ("ifHCInMulticastPkts", 10.0),
    ("ifHCOutMulticastPkts", 10.0),
    ("ifHCInBroadcastPkts", 2.0),
    ("ifHCOutBroadcastPkts", 2.0),
    ("ifInOctets", 90_000_000.0),
    ("ifOutOctets", 60_000_000.0),
    ("ifInUcastPkts", 80_000.0),
    ("ifOutUcastPkts", 70_000.0),
    ("ifInErrors", 0.01),
    ("ifOutErrors", 0.0),
    ("ifInDiscards", 0.05),
    ("ifOutDiscards", 0.0),
    ("ifInUnknownProtos", 0.0),
    ("ifAdminStatus", 0.0),
    ("ifOperStatus", 0.0),
    ("ifHighSpeed", 0.0),
    ("ifSpeed", 0.0),
    ("ifMtu", 0.0),
    ("ifLastChange", 0.0),
    ("ifPromiscuousMode", 0.0),
    ("ifConnectorPresent", 0.0),
    ("ifType_info", 0.0),
];

/// The page of one device.
pub fn device(mut t: Template, seed: u64) -> Template {
    t.family("sysUpTime", "gauge", "Hundredths of a second since the device started.");
    let up = t.counter(10_000_000, 100.0, 1.0, 1.0);
    t.line("", up);
    for (name, per_second) in COLUMNS {
        t.family(
            name,
            if per_second > 0.0 { "counter" } else { "gauge" },
            "A column of the interface table.",
        );
        for i in 0..INTERFACES {
            let draw = mix(seed, u64::from(i), name.len() as u64);
            let value = if per_second > 0.0 {
                // A quarter of the interfaces are idle.
                let per_second = if i % 4 == 3 { per_second / 1e4 } else { per_second };
                t.counter(draw % (1 << 40), per_second.max(0.001), 0.95, 1.0)
            } else {
                Value::constant(1 + u64::from(name == "ifHighSpeed") * 9999)
            };
            t.line(&interface(i), value);
        }
    }
    t
}
