//! Functions of the library that released scripts call stay in it.

use realtime_tests::Stack;
use xtask::script;

/// Postgres looks for a C function when one is declared. What it says tells a function that is there and not meant for
/// SQL from one that is not there.
#[tokio::test]
async fn the_library_has_every_symbol_that_was_ever_released() {
    let stack = Stack::start().await;
    let symbols = script::symbols().unwrap();
    assert!(symbols.contains_key("notify_table_change"));
    let mut missing = Vec::new();
    for symbol in symbols.keys().map(String::as_str).chain(["never_was"]) {
        let declare =
            format!("create function public.probe() returns int language c as '$libdir/realtime', '{symbol}'");
        match stack.try_exec(&declare).await {
            Ok(()) => stack.exec("drop function public.probe()").await,
            Err(error) => {
                let said = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
                if !said.contains("could not find function information") {
                    missing.push(symbol);
                }
            }
        }
    }
    assert_eq!(missing, ["never_was"], "put a stub that refuses politely into the extension");
}
