import coremltools as ct
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.save import save_packages


def test_everything_that_xcode_shows(toy, tmp_path):
    extra = {"com.example.b": "2", "com.example.a": "1"}
    path = tmp_path / "Unet.mlpackage"
    save_packages(
        toy.program("iOS16"),
        [path],
        inputs=toy.module.inputs,
        outputs=toy.module.outputs,
        precision="fp16",
        islands=toy.islands,
        target="iOS16",
        metadata=PackageMetadata("A toy.", "Someone", "MIT", "1.2", extra),
    )
    spec = ct.utils.load_spec(str(path))
    about = spec.description.metadata
    assert about.shortDescription == "A toy."
    assert about.author == "Someone"
    assert about.license == "MIT"
    assert about.versionString == "1.2"
    assert dict(about.userDefined).items() >= extra.items()
    # A date would make every package different.
    assert not [key for key in about.userDefined if "date" in key]
    features = [*spec.description.input, *spec.description.output]
    described = {each.name: each.shortDescription for each in features}
    ports = (*toy.module.inputs, *toy.module.outputs)
    assert described == {port.name: port.description for port in ports}
    assert spec.specificationVersion == 7
