// swift-tools-version: 6.0
import AppleProductTypes
import PackageDescription

let package = Package(
    name: "Studio",
    platforms: [.iOS("17.0")],
    products: [
        .iOSApplication(
            name: "Studio",
            targets: ["StudioApp"],
            bundleIdentifier: "com.example.kdexport.studio",
            displayVersion: "1.0",
            bundleVersion: "1",
            appIcon: .placeholder(icon: .images),
            accentColor: .presetColor(.indigo),
            // On a Mac it runs through Mac Catalyst.
            supportedDeviceFamilies: [.pad, .phone, .mac],
            supportedInterfaceOrientations: [
                .portrait,
                .landscapeRight,
                .landscapeLeft,
                .portraitUpsideDown(.when(deviceFamilies: [.pad])),
            ],
            capabilities: [
                // For adding a model, where the app runs in the sandbox of a Mac.
                .fileAccess(.userSelectedFiles, mode: .readOnly),
                // For what the share sheet offers: without a purpose the system ends the app.
                .photoLibraryAdd(purposeString: "To save the pictures that you share to Photos."),
            ],
            appCategory: .graphicsDesign
        )
    ],
    dependencies: [
        // The package that this folder lies in.
        .package(path: "../..")
    ],
    targets: [
        .executableTarget(
            name: "StudioApp",
            dependencies: [
                .product(name: "KDDiffusion", package: "swift_demo"),
                .product(name: "KDStudio", package: "swift_demo"),
            ],
            path: "Sources",
            // Bundles that are part of the app: each a folder made by `kdexport coreml`.
            resources: [.copy("Models")]
        )
    ],
    swiftLanguageModes: [.v6]
)
