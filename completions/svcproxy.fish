# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_svcproxy_global_optspecs
    string join \n color= v/verbose h/help V/version
end

function __fish_svcproxy_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_svcproxy_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_svcproxy_using_subcommand
    set -l cmd (__fish_svcproxy_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c svcproxy -n "__fish_svcproxy_needs_command" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_needs_command" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -s V -l version -d 'Print version'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "compile" -d 'Print the rules that a node would get; changes nothing, needs no root'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "diff" -d 'Compare what is wanted of a node with what it has'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "apply" -d 'Make this node\'s rules as they are wanted; a second time it does nothing'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "run" -d 'Keep this node as it is wanted while the cluster changes'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "cleanup" -d 'Remove all Service rules from this node; rules of others stay'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "verify" -d 'Check that the rules of a node mean what the manifests say'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "inspect" -d 'Read Services back from the rules of a node, whoever made them'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "trace" -d 'Follow a packet through the rules of a node: every hook, every rule that matches, and what becomes of it'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "explain" -d 'Tell why each endpoint of a Service is used or not, and what becomes of whom at each of its addresses'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c svcproxy -n "__fish_svcproxy_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l output-dir -d 'Write files for the tools into this folder instead' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -s o -l output -d 'How to print it; `json` is of IPVS mode: the operations as netlink carries them' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l no-nfacct -d 'Leave out nfacct matches, for machines without nfacct objects'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l no-random-fully -d 'Leave out `--random-fully`, for iptables before 1.6.2'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -l no-object-comments -d 'Leave out the comments of nft tables, chains and sets, for kernels before 5.10'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand compile" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l against -d 'Compare with recorded rules instead of this machine\'s: needs no root' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l base -d 'Compare with what these manifests would give instead of this machine\'s rules: needs no root' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -s o -l output -d 'How to print it' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l iptables -d 'Which iptables holds the rules' -r -f -a "auto\t'The one that holds rules of ours, else the one that holds the kubelet\'s or the most, else plain `iptables`'
legacy\t'iptables-legacy'
nft\t'iptables-nft'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l rules -d 'Show the rules that differ as well'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l nft-tool -d 'Read and change nftables through the tool nft, not by netlink'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l no-nfacct -d 'Leave out nfacct matches, for machines without nfacct objects'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l no-random-fully -d 'Leave out `--random-fully`, for iptables before 1.6.2'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -l no-object-comments -d 'Leave out the comments of nft tables, chains and sets, for kernels before 5.10'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l iptables -d 'Which iptables to use' -r -f -a "auto\t'The one that holds rules of ours, else the one that holds the kubelet\'s or the most, else plain `iptables`'
legacy\t'iptables-legacy'
nft\t'iptables-nft'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l lock-timeout -d 'How long to wait for another svcproxy to finish' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l dry-run -d 'Show the steps and have the real tools check them, but take none'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -l nft-tool -d 'Read and change nftables through the tool nft, not by netlink'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l kubeconfig -d 'How the API server is reached [default: clientConnection.kubeconfig of --config, else the account of this pod]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l master -d 'The address of the API server, instead of that of --kubeconfig' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l sync-period -d 'At least how often all rules are compared with those that are wanted, like 30s; less often if that takes more than a twentieth of the time, and in nftables mode, as long as nobody else changes anything in nf_tables, every hour [default: syncPeriod of the mode in --config, else 30s]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l min-sync-period -d 'How long changes are gathered after a sync, like 1s [default: minSyncPeriod of the mode in --config, else 1s]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l iptables -d 'Which iptables to use' -r -f -a "auto\t'The one that holds rules of ours, else the one that holds the kubelet\'s or the most, else plain `iptables`'
legacy\t'iptables-legacy'
nft\t'iptables-nft'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l lock-timeout -d 'How long to wait for another svcproxy to finish' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l healthz-bind-address -d 'Where /healthz and /livez are answered, nowhere if empty [default: healthzBindAddress of --config, else 0.0.0.0:10256]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l metrics-bind-address -d 'Where /metrics is answered, nowhere if empty [default: metricsBindAddress of --config, else 127.0.0.1:10249]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l log-format -d 'How is told what is done' -r -f -a "text\t'For people'
json\t'One JSON object a line, on standard output'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l drain -d 'On SIGTERM: how long connections may go on that are open' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l max-connections -d 'How many connections and UDP flows there may be at once; more are refused [default: as many as file descriptors allow]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l tcp-idle-timeout -d 'After how long without a byte a TCP connection is cut [default: conntrack.tcpEstablishedTimeout of --config, else a day]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l udp-timeout -d 'After how long without a datagram a UDP flow is forgotten [default: udpIdleTimeout of --config, else 250]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l socket -d 'Where `svcproxy inspect` asks [default: /run/svcproxy/, by network namespace]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l init-only -d 'Make the kernel settings, then end: for an init container that may do more than the one that stays'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l cleanup -d 'Remove all Service rules from this node, as `svcproxy cleanup` does, then end'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -l iptables -d 'Which iptables to clean; `auto` is every one that is installed, and nft' -r -f -a "auto\t'The one that holds rules of ours, else the one that holds the kubelet\'s or the most, else plain `iptables`'
legacy\t'iptables-legacy'
nft\t'iptables-nft'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -l lock-timeout -d 'How long to wait for another svcproxy to finish' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -l dry-run -d 'Show the steps, but take none'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -l nft-tool -d 'Read and change nftables through the tool nft, not by netlink'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand cleanup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l from-dump -d 'Verify recorded rules instead of this machine\'s: needs no root' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l equivalent -d 'Compare two rulesets with each other: recorded ones, or a mode\'s name for what the manifests would give in it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -s o -l output -d 'How to print it' -r -f -a "text\t'For people; with -v every packet that differs, and the rules on its way'
json\t'For programs'
junit\t'JUnit XML, for test reports'
sarif\t'SARIF, for code scanning'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l socket -d 'Where to ask `svcproxy run` for the listeners of userspace mode [default: /run/svcproxy/, by network namespace]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l iptables -d 'Which iptables holds the rules' -r -f -a "auto\t'The one that holds rules of ours, else the one that holds the kubelet\'s or the most, else plain `iptables`'
legacy\t'iptables-legacy'
nft\t'iptables-nft'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l from-dump -d 'Read recorded rules instead of this machine\'s: needs no root' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -s o -l output -d 'How to print it' -r -f -a "text\t'For people'
wide\t'For people with wide terminals'
json\t'For programs'
yaml\t'For programs and people'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l socket -d 'Where to ask `svcproxy run` for the listeners of userspace mode [default: /run/svcproxy/, by network namespace]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l graph -d 'Draw the way of the Service\'s packets through hooks, chains and endpoints' -r -f -a "dot\t'For Graphviz'
mermaid\t'For Mermaid'
svg\t'A picture'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l mode -d 'The rules of one mode alone [default: all that there are]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l from-dump -d 'Follow it through recorded rules instead of this machine\'s: needs no root' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l local-address -d 'An address of the node, beside those that the Node has; for recorded rules' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l sent-before -d 'Follow it for a client that was sent to this endpoint not long ago: with session affinity it goes there again' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l socket -d 'Where to ask `svcproxy run` for the listeners of userspace mode [default: /run/svcproxy/, by network namespace]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l timeout -d 'How long --live waits, in seconds' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -s o -l output -d 'How to print it' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l live -d 'Wait for a real packet of the flow, and hold its way against the foretold one'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l no-nfacct -d 'Leave out nfacct matches, for machines without nfacct objects'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l no-random-fully -d 'Leave out `--random-fully`, for iptables before 1.6.2'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -l no-object-comments -d 'Leave out the comments of nft tables, chains and sets, for kernels before 5.10'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand trace" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -s o -l output -d 'How to print it' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -s f -l filename -d 'Manifests: a file, a folder (.yaml, .yml and .json below it), or `-` for standard input' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l snapshot -d 'What kubectl printed from the cluster, to lay the manifests over' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -s n -l namespace -d 'Namespace of manifests that name none' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l node -d 'The node whose rules are wanted [default: hostnameOverride of --config, else this host\'s name]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l config -d 'KubeProxyConfiguration (YAML or JSON); options given here win over it' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l mode -d 'How the rules are made [default: `mode` of --config, else iptables]' -r -f -a "iptables\t'iptables and ip6tables'
nftables\t'nft'
ipvs\t'Virtual servers in the kernel, with ipset and iptables'
userspace\t'A process (`svcproxy run`) that iptables and ip6tables lead to'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l layout -d 'The shape of the rules' -r -f -a "kube-proxy\t'Rule for rule what kube-proxy makes'
fast\t'The same to every packet with far fewer kernel objects'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l family -d 'One IP family alone [default: both]' -r -f -a "ipv4\t'IPv4 alone'
ipv6\t'IPv6 alone'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l node-ip -d 'The node\'s address, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l zone -d 'The node\'s zone, instead of the Node object\'s' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l pod-cidr -d 'The node\'s pod network, instead of the Node object\'s; once for each family' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l service-cidr -d 'Where cluster IPs come from (ServiceCIDRs of the cluster)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l node-port-range -d 'Where placeholder node ports of new Services come from' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l proxy-port-range -d 'Where the proxy ports of userspace mode come from (portRange) [default: 20000-29999]' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l cluster-cidr -d 'Pod networks of the cluster, comma-separated (clusterCIDR)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l detect-local-mode -d 'How traffic of pods is told from other traffic (detectLocalMode)' -r -f -a "ClusterCIDR\t'Source address in --cluster-cidr'
NodeCIDR\t'Source address in the Node\'s spec.podCIDRs'
BridgeInterface\t'Came in by --pod-bridge-interface'
InterfaceNamePrefix\t'Came in by an interface that begins with --pod-interface-name-prefix'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l pod-bridge-interface -d 'The bridge of pods (detectLocal.bridgeInterface)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l pod-interface-name-prefix -d 'How interfaces of pods begin (detectLocal.interfaceNamePrefix)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l nodeport-addresses -d 'Networks whose local addresses answer node ports, comma-separated, or `primary` (nodePortAddresses)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l masquerade-all -d 'Rewrite the source of all traffic to cluster IPs (iptables.masqueradeAll)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l iptables-masquerade-bit -d 'Which bit of the mark asks for source NAT (iptables.masqueradeBit)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l ipvs-scheduler -d 'Who chooses among endpoints in IPVS mode: rr, wrr, lc, wlc, sh, mh, … (ipvs.scheduler)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l ipvs-exclude-cidrs -d 'Networks whose virtual servers are left alone, comma-separated (ipvs.excludeCIDRs)' -r
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l ipvs-strict-arp -d 'Do not answer ARP for addresses of Services (ipvs.strictARP)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l iptables-localhost-nodeports -d 'Whether node ports answer on 127.0.0.1 (iptables.localhostNodePorts)' -r -f -a "true\t''
false\t''"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l all-nodes -d 'On every Node of the input, a column each, instead of one'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l strict -d 'Treat warnings as errors'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l keep-other-modes -d 'Leave the rules of other modes on this machine'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l exclusive -d 'In IPVS mode, delete every virtual server that is not wanted, also those that somebody else made, as kube-proxy does'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -l keep-going -d 'Do not let broken objects count: go on, and end as if they were not there'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand completions" -l color -d 'When to use colours' -r -f -a "auto\t'On terminals, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c svcproxy -n "__fish_svcproxy_using_subcommand completions" -s v -l verbose -d 'Say more on standard error: -v what is done, -vv how'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "compile" -d 'Print the rules that a node would get; changes nothing, needs no root'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "diff" -d 'Compare what is wanted of a node with what it has'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "apply" -d 'Make this node\'s rules as they are wanted; a second time it does nothing'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "run" -d 'Keep this node as it is wanted while the cluster changes'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "cleanup" -d 'Remove all Service rules from this node; rules of others stay'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "verify" -d 'Check that the rules of a node mean what the manifests say'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "inspect" -d 'Read Services back from the rules of a node, whoever made them'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "trace" -d 'Follow a packet through the rules of a node: every hook, every rule that matches, and what becomes of it'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "explain" -d 'Tell why each endpoint of a Service is used or not, and what becomes of whom at each of its addresses'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "completions" -d 'Print the completion script of a shell'
complete -c svcproxy -n "__fish_svcproxy_using_subcommand help; and not __fish_seen_subcommand_from compile diff apply run cleanup verify inspect trace explain completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
