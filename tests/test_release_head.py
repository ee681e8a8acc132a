"""Our diffusion head against the published release's code, on the recorded cases."""

import json
import os
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import load_file

from dcar import DiffusionHead
from dcar.config import HeadConfig
from dcar.modules.diffusion import GaussianDiffusion, respaced_timesteps
from dcar.modules.diffusion_head import HeadNoise, timestep_features
from dcar.weights.release import convert_tensors

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "release"
CASES = Path(os.environ.get("RELEASE_FIXTURES", SHARED)) / "diffusion_head"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no fixtures at {CASES}")


def case(name: str) -> dict[str, torch.Tensor]:
    path = CASES / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"no case {name} at {CASES}")
    return load_file(path)


@pytest.fixture(scope="module")
def head() -> DiffusionHead:
    settings = json.loads((CASES / "config.json").read_text())
    head = DiffusionHead(
        HeadConfig(
            latent_channels=settings["target_channels"],
            condition_dim=settings["z_channels"],
            depth=settings["depth"],
            width=settings["width"],
            residual_std=settings["vae_scale"],
            clip=1.0 if settings["clip_denoised"] else None,
        )
    )
    official = load_file(CASES.parent / "generator" / "weights.safetensors")
    tensors = convert_tensors({k: v for k, v in official.items() if k.startswith("diffloss.")})
    head.load_state_dict({k.removeprefix("head."): v for k, v in tensors.items()}, strict=True)
    return head.eval()


@torch.no_grad()
def test_network(head: DiffusionHead) -> None:
    tensors = case("net_forward")
    x, t, c, null = (tensors[name] for name in ("x", "t", "c", "c_uncond"))
    torch.testing.assert_close(
        timestep_features(t), tensors["timestep_embedding"], atol=1e-4, rtol=0
    )
    out = head(x, t, c)
    torch.testing.assert_close(out, tensors["out"], atol=1e-4, rtol=0)
    # Guided: epsilon is the same in both halves, the variance value is each half's own.
    both = head(torch.cat([x, x]), torch.cat([t, t]), torch.cat([c, null]))
    cond, uncond = (half.chunk(2, dim=1) for half in both.chunk(2))
    for name in (name for name in tensors if name.startswith("out_cfg_")):
        scale = float(name.removeprefix("out_cfg_").replace("p", "."))
        epsilon = (1 + scale) * cond[0] - scale * uncond[0]
        guided = torch.cat([torch.cat([epsilon, part[1]], dim=1) for part in (cond, uncond)])
        torch.testing.assert_close(guided, tensors[name], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_training_loss(head: DiffusionHead) -> None:
    tensors = case("training_loss")
    t, noise = tensors["t"], tensors["noise"]
    x0 = tensors["target"] / head.config.residual_std
    x_t = head.diffusion.add_noise(x0, t, noise)
    torch.testing.assert_close(x_t, tensors["x_t"], atol=1e-5, rtol=1e-5)
    terms = head.diffusion.terms(head(x_t, t, tensors["c"]), x0, x_t, t, noise)
    torch.testing.assert_close(terms.mse, tensors["mse"], atol=0, rtol=1e-4)
    torch.testing.assert_close(terms.vb, tensors["vb"], atol=0, rtol=1e-4)
    total = terms.mse + terms.vb
    torch.testing.assert_close(total, tensors["loss"], atol=0, rtol=1e-4)
    torch.testing.assert_close(total.mean(), tensors["loss_mean"], atol=0, rtol=1e-4)


def test_schedules() -> None:
    tensors = case("schedules")
    full = GaussianDiffusion()
    tables = {
        "train_alphas_cumprod": full.alphas_cumprod,
        "train_betas": full.betas,
        "train_posterior_log_variance_clipped": full.posterior_log_variance,
    }
    for steps in sorted(int(k.split("_")[-1]) for k in tensors if k.startswith("timestep_map_")):
        chain = GaussianDiffusion(respaced_timesteps(steps))
        assert torch.equal(chain.timesteps, tensors[f"timestep_map_{steps}"])
        tables |= {
            f"alphas_cumprod_{steps}": chain.alphas_cumprod,
            f"betas_{steps}": chain.betas,
            f"posterior_log_variance_clipped_{steps}": chain.posterior_log_variance,
            f"posterior_mean_coef1_{steps}": chain.posterior_mean_x0,
            f"posterior_mean_coef2_{steps}": chain.posterior_mean_xt,
        }
    for name, table in tables.items():
        torch.testing.assert_close(table, tensors[name], atol=1e-12, rtol=1e-9, msg=name)


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("sample_steps*")))
@torch.no_grad()
def test_sampling(head: DiffusionHead, name: str) -> None:
    tensors = case(name)
    with safe_open(CASES / f"{name}.safetensors", "pt") as file:
        metadata = file.metadata()
    steps, scale = int(metadata["steps"]), float(metadata["cfg"])
    start, rows = tensors["init_noise"], len(tensors["init_noise"])
    # 1.0 is how the release spells no guidance; at 0.0 it doubles the rows for nothing.
    guided = scale if scale != 1.0 else 0.0
    condition = tensors["z"] if guided else tensors["z"][:rows]
    xs, denoised = [], []

    def watch(x: torch.Tensor, x0: torch.Tensor) -> None:
        xs.append(x)
        denoised.append(x0)

    sample = head.sample(
        rearrange(condition, "(b n) d -> b n d", n=rows),
        steps,
        guided,
        noise=HeadNoise(start[None], tensors["step_noise"][:, None, :rows]),
        on_step=watch,
    )
    torch.testing.assert_close(sample[0], tensors["sample"], atol=2e-4, rtol=0)
    expected = tensors["x_after_step"][:, :rows]
    torch.testing.assert_close(torch.stack(xs), expected, atol=2e-4, rtol=1e-5)
    expected = tensors["pred_xstart"][:, :rows]
    torch.testing.assert_close(torch.stack(denoised), expected, atol=2e-4, rtol=1e-5)
