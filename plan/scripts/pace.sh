# shellcheck shell=bash
# Measures how slow the machine is: the same piece of work takes longer on a machine that is emulated,
# whose host is busy, or that has much to do itself.

# The work, and the microseconds that it takes on a quiet emulated machine (QEMU 7.2's TCG, with one core
# of the host for itself: 8.5 to 10.4 ms). Without emulation it takes 0.5 ms. It is longer than the 3 ms
# for which Linux lets a process work while others wait: shorter work could lie between two interruptions
# by the host and would not notice them.
rounds=400 quiet=10000

# How many times slower than a quiet emulated machine this one is, in hundredths, and the number of
# measurements behind that mean. A faster machine counts as quiet, so that no limit becomes shorter.
pace=100 measured=0

# The time when a processor was wanted, and how much of it the host kept for others.
cpu_wanted=0 cpu_stolen=0

# measure: bring the pace up to date, without starting a program
measure() {
    local begin end number user nice system irq softirq steal had sample
    begin=$EPOCHREALTIME
    for ((number = 0; number < rounds; number++)); do :; done
    end=$EPOCHREALTIME
    sample=$(((10#${end/./} - 10#${begin/./}) * 100 / quiet))
    # Somebody may have set the clock meanwhile, and a single long stop must not count for minutes.
    ((sample >= 100)) || sample=100
    ((sample <= 6400)) || sample=6400
    # With KVM the processor knows the time that the host took from it; an emulated one does not.
    if read -r _ user nice system _ _ irq softirq steal _ 2>/dev/null </proc/stat; then
        had=$cpu_wanted
        cpu_wanted=$((user + nice + system + irq + softirq + steal))
        # Enough time must have passed, or the numbers are too small to mean anything.
        if ((had > 0 && cpu_wanted - had >= 20 && steal > cpu_stolen && cpu_wanted - had > steal - cpu_stolen)); then
            number=$(((cpu_wanted - had) * 100 / (cpu_wanted - had - (steal - cpu_stolen))))
            ((sample >= number)) || sample=$number
        fi
        cpu_stolen=$steal
    fi
    # The mean of the first eight measurements; after that each new one counts for an eighth.
    ((measured == 8)) || measured=$((measured + 1))
    pace=$((pace + (sample - pace) / measured))
}
