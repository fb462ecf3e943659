//! The one place that opens privileged things and puts the parts together: link, inventory, leases, DHCP, XDP, TFTP and
//! HTTP. No decision about a packet is made here.
//!
//! All of it starts anew, with the same leases, when the interface gets another address.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use arc_swap::ArcSwap;
use futures_util::FutureExt;
use ipnetwork::Ipv4Network;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::problem::{Problem, Problems};
use crate::config::{self, Mode, RouterAdvertisement, Settings};
use crate::dhcp::options::Subnet;
use crate::dhcp::vacant::Network;
use crate::fastpath::entries::Site;
use crate::fastpath::{self, Fastpath, Trunk};
use crate::inventory::rendering::Server;
use crate::inventory::{HOSTS_FILE, Inventory, Networks, Snapshot};
use crate::net::link::{Link, State, Watch};
use crate::net::{ports, ra};
use crate::orders::Orders;
use crate::timeline::Timeline;
use crate::{dhcp, http, store, tftp};

mod contested;
mod follow;
mod heard;

use contested::Contested;
use follow::{Followed, follow, updated};

/// Serves until SIGTERM, SIGINT or SIGUSR1.
///
/// # Errors
/// When something that it cannot do without fails; `Problems` when the hosts do not fit the interface's subnet.
pub async fn serve(settings: Settings, inventory: Arc<Inventory>) -> Result<()> {
    let stop = CancellationToken::new();
    let for_successor = Arc::new(AtomicBool::new(false));
    let mut background = JoinSet::new();
    background.spawn(signals(Arc::clone(&inventory), stop.clone(), Arc::clone(&for_successor))?);
    background.spawn(Arc::clone(&inventory).watch(stop.clone()));
    let orders = Orders::start(Arc::clone(&inventory)).context("start a thread for orders")?;
    let timeline = Timeline::heard_by(heard::listener(&settings, &inventory, &orders));
    let tls = settings.http.tls.as_ref().map(|tls| http::Certificate::open(tls, &settings.data)).transpose();
    let certificate = tls.map_err(|problem| Problems(vec![problem]))?.map(Arc::new);
    let operator =
        settings.http.token_file.as_ref().map(|file| http::Token::open(file, &settings.data)).transpose();
    let operator = operator.map_err(|problem| Problems(vec![problem]))?.map(Arc::new);

    let mut watch = Watch::open(&settings.interface)?;
    let mut served = false;
    loop {
        let link = tokio::select! {
            () = stop.cancelled() => break,
            link = watch.usable(|reason| tracing::warn!("waiting: {reason}")) => link?,
        };
        let own = Ipv4Network::new(link.addr, link.prefix.prefix()).unwrap_or(link.prefix);
        if let Err(problems) = fit(&settings, &inventory, own) {
            // At the start the files are to blame; later somebody may only be changing the interface.
            if !served {
                return Err(problems.into());
            }
            tracing::error!(
                "waiting: hosts or settings do not fit {}; the interface, {HOSTS_FILE} or {} must change",
                link.prefix,
                config::FILE
            );
            let mut accepted = inventory.accepted();
            // Settings are read at the start alone: those that do not fit wait for the interface, whatever the hosts say.
            let hosts_can_mend = unfit(&settings, own).is_empty();
            tokio::select! {
                () = stop.cancelled() => break,
                state = watch.changed(&link) => drop(state?),
                _ = accepted.wait_for(|accepted| *accepted), if hosts_can_mend => {}
            }
            continue;
        }
        served = true;
        let parts = Parts {
            settings: &settings,
            inventory: &inventory,
            orders: &orders,
            timeline: &timeline,
            link: &link,
            certificate: certificate.as_ref(),
            operator: operator.as_ref(),
            for_successor: &for_successor,
        };
        if let Err(error) = parts.serve(&mut watch, &stop).await {
            // An address that went away in the middle of it is no failure of ours.
            if stop.is_cancelled() || !watch.stirred().await {
                return Err(error);
            }
            tracing::warn!("the interface has changed, starting anew: {error:#}");
        }
        if stop.is_cancelled() {
            break;
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    while background.join_next().await.is_some() {}
    tracing::info!("stopped");
    Ok(())
}

/// Holds settings and hosts against the interface's subnet.
fn fit(settings: &Settings, inventory: &Inventory, own: Ipv4Network) -> Result<(), Problems> {
    let unfit = unfit(settings, own);
    if !unfit.is_empty() {
        return Err(Problems(unfit));
    }
    inventory.set_networks(Networks::new(Some(own), &settings.dhcp))
}

/// What is wrong with the settings on this subnet.
fn unfit(settings: &Settings, own: Ipv4Network) -> Vec<Problem> {
    config::unfit(&settings.data, &settings.dhcp.pool, &settings.dhcp.subnets, own)
}

/// Turns signals into what they mean here: SIGTERM and SIGINT stop, SIGUSR1 stops for a successor, SIGHUP reads the data
/// directory again.
fn signals(
    inventory: Arc<Inventory>,
    stop: CancellationToken,
    for_successor: Arc<AtomicBool>,
) -> Result<impl Future<Output = ()>> {
    let mut user = signal(SignalKind::user_defined1()).context("listen for SIGUSR1")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = user.recv() => {
                    tracing::info!("SIGUSR1: stopping for a successor");
                    for_successor.store(true, Ordering::Release);
                    break;
                }
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: reading the data directory again");
                    let inventory = Arc::clone(&inventory);
                    // What it finds is in the log.
                    let _ = tokio::task::spawn_blocking(move || inventory.reload()).await;
                }
            }
        }
        stop.cancel();
    })
}

/// A TCP port of every address.
async fn bind(port: u16, what: &str, flag: &str) -> Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let place = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            bail!("serve {what}: {} (or choose another with {flag})", ports::taken(ports::Proto::Tcp, place))
        }
        Err(error) => Err(error).with_context(|| format!("listen on TCP port {port} for {what}")),
    }
}

/// What everything that serves one address of the interface is made from.
struct Parts<'a> {
    settings: &'a Settings,
    inventory: &'a Arc<Inventory>,
    orders: &'a Arc<Orders>,
    timeline: &'a Timeline,
    link: &'a Link,
    /// What HTTPS is served with.
    certificate: Option<&'a Arc<http::Certificate>>,
    /// The operator's token for HTTP.
    operator: Option<&'a Arc<http::Token>>,
    /// When told to stop: the XDP program is to stay.
    for_successor: &'a Arc<AtomicBool>,
}

impl Parts<'_> {
    /// Starts everything on the link, and ends it when told to stop or when the link is no longer what it was.
    async fn serve(&self, watch: &mut Watch, stop: &CancellationToken) -> Result<()> {
        let Self { settings, inventory, orders, timeline, link, for_successor, .. } = *self;
        tracing::info!(interface = link.name, addr = %link.addr, prefix = %link.prefix, mac = %link.mac, "serving {} on {}", link.prefix, link.name);
        let subnet = Subnet::new(link, settings);
        self.tell_gaps();
        let (ends, ready) = (stop.child_token(), Arc::new(AtomicBool::new(false)));
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();

        let leases = self.open_leases()?;
        let lease_reader = leases.reader();
        let mut dhcp = dhcp::server::Server::bind(link, &subnet, settings.mode, &settings.dhcp, leases)?;
        let files = self.files();
        let (mut tftp, sockets) = match (self.start_tftp(files.clone(), &ends), self.listen().await) {
            (Ok(tftp), Ok(sockets)) => (tftp, sockets),
            (mut tftp, sockets) => {
                // What runs already ends first, and closes ports and store for the next try.
                ends.cancel();
                let _ = dhcp.run(inventory.snapshots(), timeline.clone(), ends).await;
                if let Ok(tftp) = &mut tftp {
                    let _ = tftp.ended().await;
                }
                return tftp.and(sockets).map(drop);
            }
        };
        // Subscribed first, so that no snapshot is missed after the one that XDP starts with.
        let changes = inventory.changes();
        let (mut contested, snapshot) = (Contested::new(lease_reader.clone()), inventory.snapshot());
        contested.look(&snapshot, true);
        // The last, for it answers from its first update on.
        let (fastpath, xdp) = self.attach(&subnet, &snapshot, contested.taken());
        let bound = fastpath.is_some().then(|| dhcp.follow_leases());

        let app = http::app(http::State {
            inventory: Arc::clone(inventory),
            templates: Arc::default(),
            files,
            server: Server { addr: link.addr, http_port: settings.http.port },
            reads: Arc::new(http::Reads::new(settings.http.secret_reads)),
            subnets: self.subnets().into(),
            override_from: settings.http.override_from.clone().into(),
            token: self.operator.cloned(),
            leases: lease_reader,
            orders: Arc::clone(orders),
            network: Arc::new(Network::new(&subnet, &settings.dhcp)),
            unknown: settings.dhcp.unknown,
            waiting: dhcp.waiting(),
            timeline: timeline.clone(),
            ready: Arc::clone(&ready),
            xdp: Arc::new(ArcSwap::from_pointee(xdp)),
        });
        tasks.spawn(http::server::run(sockets, app, ends.clone()).map(|ended| ended.context("serve HTTP")));
        let (snapshots, token, steps) = (inventory.snapshots(), ends.clone(), timeline.clone());
        tasks.spawn(async move { Ok(dhcp.run(snapshots, steps, token).await?) });
        tasks.spawn(async move { Ok(tftp.ended().await?) });
        if let Some(ra) = self.advertise() {
            let (token, steps) = (ends.clone(), timeline.clone());
            tasks.spawn(async move {
                ra.run(move |name| steps.count("ra", name), token).await;
                Ok(())
            });
        }
        let (off, stays) = (CancellationToken::new(), Arc::clone(for_successor));
        let followed = Followed { inventory: Arc::clone(inventory), news: changes, leases: bound };
        tasks.spawn(follow(contested, fastpath, followed, (*timeline).clone(), off.clone(), stays));

        ready.store(true, Ordering::Release);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tracing::info!(addr = %link.addr, hosts = inventory.snapshot().hosts().len(), "ready");

        let result = tokio::select! {
            // When told to stop, servers end: that is then no failure of theirs.
            biased;
            () = stop.cancelled() => Ok(()),
            state = watch.changed(link) => match state {
                Ok(State::Up(now)) => {
                    tracing::warn!(was = %link.addr, now = %now.addr, "the interface has changed: starting anew");
                    Ok(())
                }
                // The reason is told by the wait that follows.
                Ok(State::Missing(_)) => Ok(()),
                Err(error) => Err(error.into()),
            },
            Some(ended) = tasks.join_next() => match ended {
                // The stop reaches the servers a moment before it is seen above.
                Ok(Ok(())) if ends.is_cancelled() => Ok(()),
                Ok(Ok(())) => Err(anyhow!("a server ended by itself")),
                Ok(Err(error)) => Err(error),
                Err(error) => Err(error.into()),
            },
        };
        ready.store(false, Ordering::Release);
        ends.cancel();
        // What stays for a successor does so from the very end on; else nobody is answered any more by a server that ends.
        if !for_successor.load(Ordering::Acquire) {
            off.cancel();
        }
        let mut ending = Ok(());
        loop {
            if tasks.len() <= 1 {
                off.cancel();
            }
            let Some(ended) = tasks.join_next().await else { break };
            ending = ending.and(ended.map_err(Into::into).flatten());
        }
        result.and(ending)
    }

    /// Says which machines have nothing to boot.
    fn tell_gaps(&self) {
        let Self { settings, inventory, .. } = self;
        for (gap, help) in dhcp::boot::gaps(&settings.boot, &settings.dhcp.custom, &inventory.snapshot()) {
            tracing::warn!("{gap}; {help}");
        }
    }

    /// Opens the store of leases and orders in the state directory, which is made if it is not there.
    fn open_leases(&self) -> Result<store::Redb> {
        let state = &self.settings.state;
        fs::create_dir_all(state).with_context(|| format!("make the state directory {}", state.display()))?;
        let store = store::Redb::open(state)?;
        self.orders.keep_in(store.beside(), &store.reader().list()?);
        Ok(store)
    }

    /// Where the machines are: the interface's subnet and those behind relay agents.
    fn subnets(&self) -> Vec<Ipv4Network> {
        let relayed = self.settings.dhcp.subnets.iter().map(|subnet| subnet.prefix);
        std::iter::once(self.link.prefix).chain(relayed).collect()
    }

    fn files(&self) -> tftp::Files {
        let Self { settings, inventory, link, .. } = self;
        let files = tftp::Files::new(&settings.data, inventory.snapshots(), link.addr, settings.http.port)
            .ignoring_case(settings.tftp.ignore_case);
        if settings.names_script() { files.without_autoexec() } else { files }
    }

    fn start_tftp(&self, files: tftp::Files, stop: &CancellationToken) -> Result<tftp::server::Handle> {
        let bind = SocketAddr::from((self.link.addr, tftp::PORT));
        let config = tftp::server::Config {
            bind,
            clients: self.subnets(),
            files,
            max_transfers: self.settings.tftp.max_transfers,
            max_window: self.settings.tftp.max_window,
            mtu: self.link.mtu,
            engine: self.settings.tftp.engine,
            rollover: match self.settings.tftp.rollover {
                1 => tftp::transfer::Rollover::One,
                _ => tftp::transfer::Rollover::Zero,
            },
            single_port: self.settings.tftp.single_port,
            threads: self.settings.tftp.threads,
            cache_bytes: self.settings.tftp.cache_bytes,
            in_flight_bytes: self.settings.tftp.in_flight_bytes,
            client_in_flight_bytes: self.settings.tftp.client_in_flight_bytes,
        };
        match tftp::server::start(config, self.timeline.clone(), stop.clone()) {
            Err(tftp::server::Error::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {
                let place = SocketAddrV4::new(self.link.addr, tftp::PORT);
                bail!("serve TFTP on {bind}: {}", ports::taken(ports::Proto::Udp, place))
            }
            started => Ok(started?),
        }
    }

    /// HTTP and HTTPS listen on every address: operators look at cloud-configs from elsewhere.
    async fn listen(&self) -> Result<http::server::Sockets> {
        let http = &self.settings.http;
        let plain = bind(http.port, "HTTP", "--http-port").await?;
        let tls = match (&http.tls, self.certificate) {
            (Some(tls), Some(certificate)) => {
                Some((bind(tls.port, "HTTPS", "--tls-port").await?, Arc::clone(certificate)))
            }
            _ => None,
        };
        Ok(http::server::Sockets { plain, tls })
    }

    /// Opens what answers router solicitations. Without it blades boot all the same, only later.
    fn advertise(&self) -> Option<ra::Server> {
        if self.settings.router_advertisement == RouterAdvertisement::Off {
            return None;
        }
        ra::Server::open(self.link)
            .inspect_err(|error| {
                tracing::warn!(
                    "no empty router advertisements, iPXE waits for a router at each boot: {error}"
                );
            })
            .ok()
    }

    /// Attaches the XDP program and gives it the machines. Without it the daemon answers everybody, and says why.
    /// Returns what people are told about it, too.
    fn attach(
        &self,
        subnet: &Subnet,
        snapshot: &Snapshot,
        taken: &BTreeSet<Ipv4Addr>,
    ) -> (Option<Fastpath>, String) {
        let Self { settings, timeline, link, .. } = self;
        let trunk = settings.trunk.as_deref().zip(settings.vlan);
        let trunk = trunk.map(|(name, vlan)| Trunk { name, vlan });
        let started = match settings.mode {
            Mode::Full => {
                let (site, limits) = (Site::new(subnet, &settings.dhcp), settings.dhcp.limits);
                Fastpath::start(link, trunk, site, settings.xdp, limits, (*timeline).clone())
            }
            Mode::Proxy => {
                fastpath::clear(link, trunk);
                Err(fastpath::Error::Proxy)
            }
        };
        let attached =
            started.and_then(|mut fastpath| match (fastpath.update(snapshot, taken), fastpath.mode()) {
                (Err(error), None) => Err(error),
                // The machines that do not fit into the map are no reason to do without it for the others.
                (result, mode) => Ok((fastpath, mode.map_or("off", fastpath::Mode::name), result)),
            });
        match attached {
            Ok((fastpath, mode, result)) => {
                let text = fastpath.note().map_or_else(|| mode.to_owned(), |note| format!("{mode} ({note})"));
                tracing::info!(mode, "XDP answers reserved machines: {text}");
                updated(result, timeline);
                (Some(fastpath), text)
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                if settings.mode == Mode::Proxy {
                    tracing::info!("XDP is off: {error:#}");
                } else if settings.xdp == crate::config::Xdp::Off {
                    tracing::info!("XDP is off: the daemon answers everything");
                } else {
                    tracing::warn!("no XDP, the daemon answers everything: {error:#}");
                }
                if !settings.dhcp.limits.are_off() {
                    tracing::warn!("dhcp.limits act in XDP alone, which is off: nothing is limited");
                }
                (None, format!("off ({error:#})"))
            }
        }
    }
}
