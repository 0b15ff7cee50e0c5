//! Mixture-of-experts questions and routing: which experts, how many, how large, chosen by which tokens.
