"""What a report says about the parts it compares: formulae, as in a paper, in plain letters.

Only the parts that a grid used are printed. A part from another package has no formula here; it is
named with its options and nothing is claimed of it.
"""

SCHEDULES = {
    "linear": "β_i even from 10⁻⁴ to 0.02 over 1,000 steps, α² = ∏(1 − β_i) (Ho et al. 2020)",
    "scaled_linear": "√β_i even from √0.00085 to √0.012 over 1,000 steps, α² = ∏(1 − β_i) "
    "(Rombach et al. 2022)",
    "cosine": "θ(t) = (1 − t) arccos(max_signal) + t arccos(min_signal), α = cos θ, σ = sin θ, "
    "with max_signal = 0.95 and min_signal = 0.02 unless said otherwise (the Keras DDIM example)",
    "cosine_discrete": "f(u) = cos²((u + 0.008) / 1.008 · π/2), β_i = min(1 − f(i/T) / "
    "f((i − 1)/T), 0.999), T = 1,000 (Nichol & Dhariwal 2021)",
    "shifted_cosine": "log SNR = −2 log tan(a + t (b − a)) + 2 log(64 / image_size), a and b where "
    "the first term is ±15; image_size = 64 unless said otherwise (Hoogeboom et al. 2023)",
    "sigmoid": "α² = (S(e) − S(s + t (e − s))) / (S(e) − S(s)), S the logistic function, s = −3 "
    "and e = 3 unless said otherwise, at least 10⁻⁹ (Jabri et al. 2022)",
    "laplace": "log SNR = μ − b sgn(½ − t) log(1 − 2|t − ½|) within ±15, μ = 0 and b = ½ unless "
    "said otherwise (Hang et al. 2024)",
}

SAMPLERS = {
    "ddim": "x_s = α_s x̂₀ + √(σ_s² − w²) ε̂ + w z, w = η (σ_s/σ_t) √(1 − α_t²/α_s²), with η = 0 "
    "unless said otherwise: no fresh noise (Song et al. 2021)",
    "ddpm": "draws x_s from the posterior q(x_s | x_t, x̂₀), whose variance is "
    "(σ_s²/σ_t²)(1 − α_t²/α_s²): DDIM with η = 1 (Ho et al. 2020)",
    "ddpm_large": "the mean of DDPM with the larger variance 1 − α_t²/α_s² (Ho et al. 2020)",
    "euler": "one Euler step of the probability-flow equation in x/α against σ/α: equals DDIM",
    "heun": "Heun's second-order steps in x/α against σ/α; two evaluations a step but the last "
    "(Karras et al. 2022)",
    "ab2": "Adams-Bashforth steps of two values of ε̂ in x/α against σ/α, weighted by the lengths "
    "of the steps: (1 + r/2) ε̂_n − (r/2) ε̂_n₋₁ (Zhang & Chen 2023)",
    "ipndm": "DDIM along an Adams-Bashforth mean of the last ε̂ (four unless said otherwise), with "
    "the weights of equal steps (Liu et al. 2022; Zhang & Chen 2023)",
    "deis": "ε̂ along a polynomial in t through its last values (three unless said otherwise), its "
    "integral over σ/α worked out (tAB-DEIS; Zhang & Chen 2023)",
    "dpmpp_2m": "DDIM's step towards x̂₀ + (x̂₀ − previous x̂₀)/(2r), r the ratio of the last step to "
    "this one in log SNR (DPM-Solver++ 2M; Lu et al. 2022)",
    "dpmpp_2m_sde": "DDPM's step from the same extrapolated x̂₀ (Lu et al. 2022)",
    "unipc": "a predictor and corrector in log SNR on the last x̂₀ (order 2 unless said otherwise), "
    "one evaluation a step (UniPC with B(h) = e^h − 1; Zhao et al. 2023)",
}

SPACINGS = {
    "uniform": "t_k = 1 − k/N",
    "leading": "t_k = (⌊T/N⌋ (N − 1 − k) + 1)/T, which never starts at pure noise",
    "trailing": "t_k = round(T − kT/N)/T",
    "linspace": "N even values from T to 1, rounded, over T",
    "quadratic": "t_k = (u_k² + 1)/T, u_k even from √(0.8 T) down to 0",
    "log_snr": "even in log SNR, from t = 1 to 1/T (to 0 where log SNR is finite there)",
    "karras": "even in (σ/α)^(1/ρ) between the same ends, ρ = 7 unless said otherwise "
    "(Karras et al. 2022)",
    "angle": "even in the angle atan2(σ, α c), c the standard deviation of the data, 1 unless said "
    "otherwise",
    "explicit": "the times that are listed",
}

MODELS = {
    "exact": "no network: x̂₀ = E[x₀ | x_t], worked out from the law of the data where that is "
    "known and from the training images as a finite set elsewhere. What it lacks is the sampler's "
    "error",
}

TARGETS = {
    "noise": "the network predicts ε; x̂₀ = (x_t − σ ε̂)/α (Ho et al. 2020)",
    "image": "the network predicts x₀ itself",
    "velocity": "the network predicts v = α ε − σ x₀; x̂₀ = α x_t − σ v̂ (Salimans & Ho 2022)",
}

WEIGHTINGS = {
    "simple": "weight 1 on |ε̂ − ε|², which is SNR on |x̂₀ − x₀|² (Ho et al. 2020)",
    "min_snr": "weight min(SNR, γ) on |x̂₀ − x₀|², γ = 5 unless said otherwise (Hang et al. 2023)",
    "truncated_snr": "weight max(SNR, 1) on |x̂₀ − x₀|² (Salimans & Ho 2022)",
    "sigmoid": "weight S(b − log SNR) on |ε̂ − ε|², S the logistic function, b = 0 unless said "
    "otherwise (Kingma & Gao 2023)",
}

LOSSES = {
    "mse": "the mean over pixels of the weighted squared error, over images, times and noise",
    "mae": "the mean over pixels of the absolute error, times the root of the weight, over images, "
    "times and noise",
}

METRICS = {
    "kid": "KID is the unbiased squared maximum mean discrepancy between generated and reference "
    "features, with the kernel (x·y/d + 1)³, over all images at once and not over subsets. Being "
    "unbiased it may be below zero when two sets are alike.",
    "fid": "FID is the Fréchet distance between two Gaussians fitted to the features, "
    "|m − m_r|² + tr(S + S_r − 2√(S S_r)). It is biased upwards by few images, so it is stated "
    "with their number and never compared across numbers.",
    "fid_infinity": "FID at infinity is where the line by least squares through FID over 1/n, at "
    "eight sizes up to all images, meets 1/n = 0 (Chong & Forsyth 2020).",
    "precision_score": "Precision is the share of images within the ball of some reference image, "
    "which reaches to that one's 3rd nearest neighbour among them (Kynkäänniemi et al. 2019).",
    "recall": "Recall is the share of reference images within the ball of some image, which "
    "reaches to that one's 3rd nearest neighbour among the images (Kynkäänniemi et al. 2019).",
    "density": "Density counts in how many balls of reference images, each to the 5th nearest "
    "neighbour, an image lies, over 5; it may exceed 1 (Naeem et al. 2020).",
    "coverage": "Coverage is the share of reference images that have an image within their ball to "
    "the 5th nearest neighbour (Naeem et al. 2020).",
    "memorisation": "Memorisation is the share of images that are nearer to a training image than "
    "95 % of held-out images are: 0.05 where nothing is copied.",
    "inception_score": "The Inception Score is exp of the mean of KL(p(c | x) ‖ p(c)), over all "
    "images at once and not over splits; it grows with n (Salimans et al. 2016).",
}
