//! `svcproxy inspect`: what the process that carries this node's connections tells of them.

use clap::Args;

use crate::host::{Host, HostErrorKind};
use crate::report;

use super::options::OutputArg;
use super::{Console, Error, Outcome};

/// Show the listeners of `svcproxy run`, their endpoints and connections
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct InspectArgs {
    /// Where to ask [default: /run/svcproxy/, by network namespace]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,

    /// How to print it
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputArg,
}

const EXAMPLES: &str = "\
Examples:
  svcproxy inspect
  svcproxy inspect -o json

NOW and TOTAL are connections, or flows of UDP; IN is bytes from clients, OUT bytes to them. An endpoint that failed of
late is set aside: new connections pass it by. One that is leaving keeps the connections that it has.

Exit status:
  0  done
  2  an error, as when no `svcproxy run` is at work in this network namespace";

/// Runs it.
pub fn run(args: &InspectArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let status = host.forward_status(args.socket.as_deref()).map_err(|error| {
        let is_nobody = error.kind == HostErrorKind::NotFound;
        let error = Error::from(error);
        let hint = "it is `svcproxy run --mode userspace` that tells; --socket says where";
        if is_nobody { error.hint(hint) } else { error }
    })?;
    match args.output {
        OutputArg::Text => report::listeners::write(console.out, &status)?,
        OutputArg::Json => report::listeners::write_json(console.out, &status)?,
    }
    console.out.flush()?;
    Ok(Outcome::Done)
}
