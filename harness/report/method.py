"""What a report says about the parts it compares: formulae, as in a paper, in plain letters.

Only the parts that a grid used are printed. A part from another package has no formula here; it is
named with its options and nothing is claimed of it.
"""

SCHEDULES = {
    "linear": "β_i even from 10⁻⁴ to 0.02 over 1,000 steps, α² = ∏(1 − β_i) (Ho et al. 2020)",
    "cosine": "θ(t) = (1 − t) arccos(max_signal) + t arccos(min_signal), α = cos θ, σ = sin θ, "
    "with max_signal = 0.95 and min_signal = 0.02 unless said otherwise (the Keras DDIM example)",
    "cosine_discrete": "f(u) = cos²((u + 0.008) / 1.008 · π/2), β_i = min(1 − f(i/T) / "
    "f((i − 1)/T), 0.999), T = 1,000 (Nichol & Dhariwal 2021)",
    "scaled_linear": "√β_i even from √0.00085 to √0.012 over 1,000 steps (Rombach et al. 2022)",
    "sigmoid": "α² falls along a sigmoid from −3 to 3, rescaled to run from 1 to 0 "
    "(Jabri et al. 2022)",
    "laplace": "log SNR = μ − b sgn(½ − t) log(1 − 2|t − ½|), μ = 0, b = ½ (Hang et al. 2024)",
    "shifted_cosine": "log SNR = −2 log tan(a + t(b − a)) + 2 log(64/d), d the side of the image "
    "(Hoogeboom et al. 2023)",
}

SAMPLERS = {
    "ddim": "x_s = α_s x̂₀ + √(σ_s² − w²) ε̂ + w z, w = η (σ_s/σ_t) √(1 − α_t²/α_s²), with η = 0 "
    "unless said otherwise: no fresh noise (Song et al. 2021)",
    "ddpm": "draws x_s from the posterior q(x_s | x_t, x̂₀), whose variance is "
    "(σ_s²/σ_t²)(1 − α_t²/α_s²): DDIM with η = 1 (Ho et al. 2020)",
    "ddpm_large": "the mean of DDPM with the larger variance 1 − α_t²/α_s² (Ho et al. 2020)",
    "euler": "one Euler step of the probability-flow equation in x/α against σ/α: equals DDIM",
    "heun": "Heun's second-order steps in x/α against σ/α; two evaluations a step but the last",
}

SPACINGS = {
    "uniform": "t_k = 1 − k/N",
    "leading": "t_k = (⌊T/N⌋ (N − 1 − k) + 1)/T, which never starts at pure noise",
    "trailing": "t_k = round(T − kT/N)/T",
    "linspace": "N even values from T to 1, rounded, over T",
    "quadratic": "t_k = (u_k² + 1)/T, u_k even from √(0.8 T) down to 0",
}

METRICS = {
    "kid": "KID is the unbiased squared maximum mean discrepancy between generated and reference "
    "features, with the kernel (x·y/d + 1)³, over all images at once and not over subsets. Being "
    "unbiased it may be below zero when two sets are alike.",
    "fid": "FID is the Fréchet distance between two Gaussians fitted to the features, "
    "|m − m_r|² + tr(S + S_r − 2√(S S_r)). It is biased upwards by few images, so it is stated "
    "with their number and never compared across numbers.",
}
