//! `netboot serve`: settings and inventory are read before anything is opened, then the daemon runs.

use std::process::ExitCode;
use std::sync::Arc;

use super::check::lease_file;
use super::{FAILED, WRONG, args, logs, report};
use crate::config::problem::{Problem, Problems};
use crate::config::{self, Given, Settings};
use crate::daemon;
use crate::inventory::{Inventory, Networks};

/// Serves until the daemon ends.
pub(super) fn run(serve: args::Serve) -> ExitCode {
    if let Err(message) = logs::start(serve.log_format) {
        eprintln!("netboot: {message}");
        return ExitCode::from(WRONG);
    }
    let read = config::resolve(&serve.data, Given::from(serve.settings)).and_then(|settings| {
        let settings = settings.serving()?;
        if let Some(problem) = lease_file(&settings).filter(Problem::is_error) {
            return Err(Problems(vec![problem]));
        }
        let inventory = Inventory::open(settings.data.clone(), Networks::new(None, &settings.dhcp))?;
        Ok((settings, Arc::new(inventory)))
    });
    let (settings, inventory) = match read {
        Ok(read) => read,
        Err(problems) => return refuse(&problems, serve.log_format),
    };
    match daemon(settings, inventory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(problems) = error.downcast_ref::<Problems>() {
                return refuse(problems, serve.log_format);
            }
            tracing::error!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn daemon(settings: Settings, inventory: Arc<Inventory>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(daemon::serve(settings, inventory))
}

fn refuse(problems: &Problems, format: args::LogFormat) -> ExitCode {
    match format {
        args::LogFormat::Text => report::problems(&problems.0),
        args::LogFormat::Json => {
            for problem in &problems.0 {
                tracing::error!(help = problem.help, "{problem}");
            }
        }
    }
    ExitCode::from(WRONG)
}
