# shellcheck shell=bash
# How slow a machine is: a piece of work that always is the same takes longer on one that is emulated,
# whose host is busy, or that has much to do itself.

# The work, and the microseconds that it takes on a quiet emulated machine (QEMU 7.2's TCG on a host of
# which one core works for it alone: 8.5 to 10.4 ms). Where the host emulates nothing it is 0.5 ms. It
# is longer than the 3 ms for which Linux lets a process work while others wait: a shorter one would
# lie between two of the host's interruptions, and see none.
rounds=400 quiet=10000

# How many times slower than a quiet emulated machine this one is, in hundredths, and of how many
# measurements that is the mean. Faster ones count as quiet: no limit becomes shorter.
pace=100 measured=0

# The time when a processor was wanted, and how much of it the host kept for others.
cpu_wanted=0 cpu_stolen=0

# measure: brings the pace up to date; no program is started for it
measure() {
    local begin end number user nice system irq softirq steal had sample
    begin=$EPOCHREALTIME
    for ((number = 0; number < rounds; number++)); do :; done
    end=$EPOCHREALTIME
    sample=$(((10#${end/./} - 10#${begin/./}) * 100 / quiet))
    # Somebody may have set the clock meanwhile. A lone long stop must not count for minutes either.
    ((sample >= 100)) || sample=100
    ((sample <= 6400)) || sample=6400
    # An emulated processor is not told what is stolen from it, one with KVM is.
    if read -r _ user nice system _ _ irq softirq steal _ 2>/dev/null </proc/stat; then
        had=$cpu_wanted
        cpu_wanted=$((user + nice + system + irq + softirq + steal))
        # Some of it must have passed, or the numbers are too small to say anything.
        if ((had > 0 && cpu_wanted - had >= 20 && steal > cpu_stolen && cpu_wanted - had > steal - cpu_stolen)); then
            number=$(((cpu_wanted - had) * 100 / (cpu_wanted - had - (steal - cpu_stolen))))
            ((sample >= number)) || sample=$number
        fi
        cpu_stolen=$steal
    fi
    # The mean of the first eight, and then one that forgets: each counts for an eighth.
    ((measured == 8)) || measured=$((measured + 1))
    pace=$((pace + (sample - pace) / measured))
}
