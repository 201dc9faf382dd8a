//! Signals: the fixed words for what is wrong or risky with a workload or a pod.
//!
//! The words go to the server; what they were judged from does not. [`super::pod`] judges one pod, a
//! workload's own two (`single-replica`, `not-ready`) follow from its figures in [`super::inventory`].

/// One thing that can be wrong, and the exact rule it is judged by.
///
/// "Container" means the containers that run side by side: `spec.containers` and the sidecars among the
/// init containers ([KEP-753](https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/753-sidecar-containers)).
/// Ordinary init containers are not judged by what they are, only by their states. "Finished" means phase
/// Succeeded or Failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Signal {
    /// A container has `securityContext.privileged: true`.
    Privileged,
    /// A container may run as user 0: neither `runAsNonRoot: true` nor a `runAsUser` above 0 holds for
    /// it, each taken from the container and, where that does not say, from the pod.
    RunAsRoot,
    /// A container does not say `allowPrivilegeEscalation: false`, or is privileged.
    PrivilegeEscalation,
    /// `hostNetwork: true`.
    HostNetwork,
    /// `hostPID: true`.
    HostPid,
    /// The pod has a `hostPath` volume.
    HostPath,
    /// A container requests no CPU (or 0), and neither does the pod as a whole.
    NoCpuRequest,
    /// A container requests no memory (or 0), and neither does the pod as a whole.
    NoMemoryRequest,
    /// A container has no CPU limit (or 0), and neither has the pod as a whole.
    NoCpuLimit,
    /// A container has no memory limit (or 0), and neither has the pod as a whole.
    NoMemoryLimit,
    /// One of `spec.containers` has no `livenessProbe`; not for pods of Jobs and `CronJob`s.
    NoLivenessProbe,
    /// One of `spec.containers` has no `readinessProbe`; not for pods of Jobs and `CronJob`s.
    NoReadinessProbe,
    /// A container's image has no digest, and no tag or the tag `latest`.
    MutableImageTag,
    /// A Deployment or `StatefulSet` wants exactly one replica.
    SingleReplica,
    /// A container or init container waits with reason `CrashLoopBackOff`; unfinished pods.
    CrashLooping,
    /// A container or init container waits with reason `ErrImagePull`, `ImagePullBackOff`,
    /// `InvalidImageName` or `ErrImageNeverPull`; unfinished pods.
    ImagePullFailing,
    /// A container or init container ended, now or the last time, with reason `OOMKilled`.
    OomKilled,
    /// Condition `PodScheduled` is False with reason `Unschedulable`; unfinished pods.
    Unschedulable,
    /// A workload has fewer ready replicas than it wants; a bare pod in phase Running does not have the
    /// condition Ready.
    NotReady,
}

impl Signal {
    /// All of them, in the order of their bits.
    pub(crate) const ALL: [Self; 19] = [
        Self::Privileged,
        Self::RunAsRoot,
        Self::PrivilegeEscalation,
        Self::HostNetwork,
        Self::HostPid,
        Self::HostPath,
        Self::NoCpuRequest,
        Self::NoMemoryRequest,
        Self::NoCpuLimit,
        Self::NoMemoryLimit,
        Self::NoLivenessProbe,
        Self::NoReadinessProbe,
        Self::MutableImageTag,
        Self::SingleReplica,
        Self::CrashLooping,
        Self::ImagePullFailing,
        Self::OomKilled,
        Self::Unschedulable,
        Self::NotReady,
    ];

    /// The word the server knows it by.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::RunAsRoot => "run-as-root",
            Self::PrivilegeEscalation => "privilege-escalation",
            Self::HostNetwork => "host-network",
            Self::HostPid => "host-pid",
            Self::HostPath => "host-path",
            Self::NoCpuRequest => "no-cpu-request",
            Self::NoMemoryRequest => "no-memory-request",
            Self::NoCpuLimit => "no-cpu-limit",
            Self::NoMemoryLimit => "no-memory-limit",
            Self::NoLivenessProbe => "no-liveness-probe",
            Self::NoReadinessProbe => "no-readiness-probe",
            Self::MutableImageTag => "mutable-image-tag",
            Self::SingleReplica => "single-replica",
            Self::CrashLooping => "crash-looping",
            Self::ImagePullFailing => "image-pull-failing",
            Self::OomKilled => "oom-killed",
            Self::Unschedulable => "unschedulable",
            Self::NotReady => "not-ready",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals(u32);

impl Signals {
    pub(crate) fn set(&mut self, signal: Signal) {
        self.0 |= signal.bit();
    }

    pub(crate) fn set_if(&mut self, signal: Signal, shown: bool) {
        if shown {
            self.set(signal);
        }
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.0 |= others.0;
    }

    pub(crate) const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// The signals in the set, in the order of [`Signal::ALL`].
    pub(crate) fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::ALL
            .into_iter()
            .filter(move |signal| self.contains(*signal))
    }
}

/// How often each signal was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignalCounts([u32; Signal::ALL.len()]);

impl SignalCounts {
    pub(crate) fn add(&mut self, signals: Signals) {
        for (count, signal) in self.0.iter_mut().zip(Signal::ALL) {
            *count = count.saturating_add(u32::from(signals.contains(signal)));
        }
    }

    /// The signals shown at least once, and how often.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Signal, u32)> {
        let counts = self.0.iter().copied();
        Signal::ALL
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_bit_and_a_word_of_its_own() {
        let mut all = Signals::default();
        let mut words = std::collections::BTreeSet::new();
        for (at, signal) in Signal::ALL.into_iter().enumerate() {
            assert_eq!(signal as usize, at);
            assert!(!all.contains(signal));
            all.set(signal);
            assert!(words.insert(signal.as_str()));
        }
        assert!(all.iter().eq(Signal::ALL));
    }

    #[test]
    fn counts() {
        let mut counts = SignalCounts::default();
        let mut signals = Signals::default();
        signals.set(Signal::NotReady);
        counts.add(signals);
        signals.set_if(Signal::HostPid, true);
        signals.set_if(Signal::HostPath, false);
        counts.add(signals);
        assert!(
            counts
                .iter()
                .eq([(Signal::HostPid, 1), (Signal::NotReady, 2)])
        );
    }
}
