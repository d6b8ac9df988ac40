//! What the process that carries this node's connections tells of them: as `svcproxy inspect listeners` shows it, and as
//! other commands need it.

use crate::host::{Host, HostErrorKind};
use crate::program::listener::Listeners;
use crate::report;

use super::inspect::{InspectArgs, InspectOutput};
use super::options::SocketArgs;
use super::{Console, Error, Outcome};

/// Asks the process and prints what it says.
pub(super) fn show(
    args: &InspectArgs,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Outcome, Error> {
    if args.from_dump.is_some() || args.graph.is_some() {
        return Err(Error::usage(
            "listeners are those of a running process: no dump has them, nothing draws them",
        ));
    }
    let status = host.forward_status(args.socket.socket.as_deref()).map_err(|error| {
        let is_nobody = error.kind == HostErrorKind::NotFound;
        let error = Error::from(error);
        let hint = "it is `svcproxy run --mode userspace` that tells; --socket says where";
        if is_nobody { error.hint(hint) } else { error }
    })?;
    match args.output {
        InspectOutput::Text | InspectOutput::Wide => report::listeners::write(console.out, &status)?,
        InspectOutput::Json => report::listeners::write_json(console.out, &status)?,
        InspectOutput::Yaml => {
            return Err(Error::usage("listeners come as a table or as JSON").hint("-o text or -o json"));
        }
    }
    console.out.flush()?;
    Ok(Outcome::Done)
}

/// Where the process carries new connections; `None` if none answers.
pub(super) fn of_process(host: &mut dyn Host, args: &SocketArgs) -> Result<Option<Listeners>, Error> {
    let status = match host.forward_status(args.socket.as_deref()) {
        Ok(status) => status,
        Err(error) if error.kind == HostErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let unread =
        |text| Error::host(format!("what `svcproxy run` tells of its listeners: `{text}` is not understood"));
    status.listeners().map(Some).map_err(unread)
}
